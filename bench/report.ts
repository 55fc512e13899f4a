/** Results as readable tables. */

import os from 'node:os';
import type { Result } from './contest.ts';

export interface Target {
  text: string;
  measured: number;
  limit: number;
  /** Whether larger is better. */
  atLeast?: boolean;
}

export function machineFacts(): Record<string, string | number> {
  return { cpu: os.cpus()[0]?.model ?? 'unknown', cpus: os.cpus().length, kernel: os.release(), node: process.version };
}

/** The memory target for one export and for several at once. */
export function memoryTarget(results: readonly Result[]): Target {
  const mostMib = Math.max(...results.map(({ peakMib }) => peakMib ?? 0));
  return { text: 'MB of memory at the most', measured: (mostMib * 1024 * 1024) / 1e6, limit: 250 };
}

/**
 * A table of a row's results. The ratio is to the first result: above 1 is slower than disklift. `server` is the
 * server's processor time.
 */
export function printResults(title: string, results: readonly Result[]): void {
  console.log(`\n${title}`);
  const first = results[0] as Result;
  const hasServer = results.some(({ serverSeconds }) => serverSeconds !== undefined);
  console.log(
    `  ${'contestant'.padEnd(34)} ${'median'.padStart(9)} ${'min'.padStart(9)} ${'max'.padStart(9)} ${'ratio'.padStart(7)} ${'peak MiB'.padStart(9)}  rounds${hasServer ? '  server' : ''}`,
  );
  for (const result of results) {
    const seconds = (value: number) => `${result.limited ? '>' : ''}${value.toFixed(3)} s`.padStart(9);
    const ratio = (result.medianSeconds / first.medianSeconds).toFixed(2).padStart(7);
    const peak = (result.peakMib?.toFixed(0) ?? '-').padStart(9);
    const ofServer = result.serverSeconds === undefined ? '' : `${result.serverSeconds.toFixed(3)} s`.padStart(14);
    console.log(
      `  ${result.name.padEnd(34)} ${seconds(result.medianSeconds)} ${seconds(result.minSeconds)} ${seconds(result.maxSeconds)} ${ratio} ${peak}  ${result.rounds}${ofServer}`,
    );
  }
}

export function isMet({ measured, limit, atLeast }: Target): boolean {
  return atLeast === true ? measured >= limit : measured <= limit;
}

export function printTargets(targets: readonly Target[]): void {
  console.log('\nto reach');
  for (const target of targets)
    console.log(
      `  ${isMet(target) ? 'met   ' : 'MISSED'} ${target.text}: ${target.measured.toFixed(2)} (${target.atLeast === true ? 'at least' : 'at most'} ${target.limit})`,
    );
}
