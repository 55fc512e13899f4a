/** Contestants run in turn, so that other work of the machine affects all of them alike. */

import { spawnSync } from 'node:child_process';
import { existsSync, openSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { processorSeconds } from '../test/helpers/processor-seconds.ts';
import { BENCH_DIR } from './bench-disks.ts';

export interface Contestant {
  name: string;
  /** A line for bash. `@` stands before the one process whose memory is measured. */
  line: string;
  /** Run before each round and not timed. */
  prepare?: string;
  /** Fewer rounds for slow contestants; all rounds when left out. */
  rounds?: number;
  /** Longer runs are ended and counted as this long. */
  limitSeconds?: number;
  /** Parses the seconds from standard error. When absent, the seconds of the whole process count. */
  secondsIn?: (stderr: string) => number;
  /** A server whose processor time counts as well. */
  serverPid?: number;
}

export interface Result {
  name: string;
  rounds: number;
  medianSeconds: number;
  minSeconds: number;
  maxSeconds: number;
  /** Peak resident memory of the measured process over all rounds. */
  peakMib?: number;
  /** Processor time that the server took, median. */
  serverSeconds?: number;
  /** Whether a run was ended by its limit. */
  limited: boolean;
}

const NULL_FD = openSync('/dev/null', 'w');

const GNU_TIME = '/usr/bin/time';

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? (sorted[middle] as number) : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}

function runOnce(
  { line, prepare, limitSeconds, secondsIn, serverPid }: Contestant,
  memoryFile: string,
): { seconds: number; limited: boolean; peakMib?: number; serverSeconds?: number } {
  if (prepare !== undefined) spawnSync('bash', ['-c', prepare], { stdio: 'ignore' });
  rmSync(memoryFile, { force: true });
  const measured = line.replaceAll('@', existsSync(GNU_TIME) ? `${GNU_TIME} -f %M -o '${memoryFile}' ` : '');
  const serverBefore = serverPid === undefined ? 0 : processorSeconds(serverPid);
  const startMs = performance.now();
  const limit = limitSeconds === undefined ? {} : { timeout: limitSeconds * 1000, killSignal: 'SIGKILL' as const };
  // A group of its own, so that a limit ends the whole pipeline.
  const { status, stderr, error } = spawnSync(
    'timeout',
    ['-s', 'KILL', `${limitSeconds ?? 3600}`, 'bash', '-o', 'pipefail', '-c', measured],
    {
      // Opened as by `> /dev/null`. A descriptor that is open for reading too looks like a closed one.
      stdio: ['ignore', NULL_FD, 'pipe'],
      ...limit,
    },
  );
  const wholeSeconds = (performance.now() - startMs) / 1000;
  const limited = limitSeconds !== undefined && wholeSeconds >= limitSeconds - 0.5;
  if (!limited && status !== 0) throw new Error(`${line}\nfailed: ${error ?? stderr}`);
  const peakKib = existsSync(memoryFile) ? Number.parseInt(readFileSync(memoryFile, 'utf8'), 10) : Number.NaN;
  const seconds = secondsIn === undefined ? wholeSeconds : secondsIn(`${stderr}`);
  return {
    seconds,
    limited,
    ...(Number.isNaN(peakKib) ? {} : { peakMib: peakKib / 1024 }),
    ...(serverPid === undefined ? {} : { serverSeconds: processorSeconds(serverPid) - serverBefore }),
  };
}

/** One warm-up each, then `rounds` rounds in which each contestant runs once. */
export function runContest(contestants: readonly Contestant[], rounds: number): Result[] {
  const memoryFile = path.join(BENCH_DIR, 'peak-memory');
  const runs = new Map(contestants.map(({ name }) => [name, [] as ReturnType<typeof runOnce>[]]));
  for (const contestant of contestants) if (contestant.limitSeconds === undefined) runOnce(contestant, memoryFile);
  for (let round = 0; round < rounds; round += 1)
    for (const contestant of contestants)
      if (round < (contestant.rounds ?? rounds)) runs.get(contestant.name)?.push(runOnce(contestant, memoryFile));
  return contestants.map(({ name }) => {
    const own = runs.get(name) ?? [];
    const seconds = own.map((run) => run.seconds);
    const peaks = own.flatMap(({ peakMib }) => (peakMib === undefined ? [] : [peakMib]));
    const ofServer = own.flatMap(({ serverSeconds }) => (serverSeconds === undefined ? [] : [serverSeconds]));
    return {
      name,
      rounds: own.length,
      medianSeconds: median(seconds),
      minSeconds: Math.min(...seconds),
      maxSeconds: Math.max(...seconds),
      ...(peaks.length > 0 ? { peakMib: Math.max(...peaks) } : {}),
      ...(ofServer.length > 0 ? { serverSeconds: median(ofServer) } : {}),
      limited: own.some(({ limited }) => limited),
    };
  });
}

/** @returns the median time of one contestant; NaN where it did not run */
export function secondsOf(results: readonly Result[], name: string): number {
  return results.find((result) => result.name === name)?.medianSeconds ?? Number.NaN;
}
