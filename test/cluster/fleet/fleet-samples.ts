/** Samples of a process during a run, and what they show. Pure, except for the reading of a sample. */

import { readFileSync } from 'node:fs';
import { residentBytes } from '../../helpers/process-memory.ts';
import { processorSeconds } from '../../helpers/processor-seconds.ts';

export interface Sample {
  seconds: number;
  /** Exports that have ended. */
  ended: number;
  processorSeconds: number;
  residentBytes: number;
  /** Resident memory that is no file's. */
  anonymousBytes: number;
}

export function sampleOf(pid: number, seconds: number, ended: number): Sample {
  const [, kib] = /^RssAnon:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return {
    seconds,
    ended,
    processorSeconds: processorSeconds(pid),
    residentBytes: residentBytes(pid),
    anonymousBytes: Number(kib) * 1024,
  };
}

/** @returns processor time for each export that ended between two counts, in milliseconds */
export function processorMsEach(samples: readonly Sample[], from: number, to: number): number {
  const [first, last] = [at(samples, from), at(samples, to)];
  return ((last.processorSeconds - first.processorSeconds) * 1000) / (last.ended - first.ended);
}

/** The first sample with at least so many ended exports. */
function at(samples: readonly Sample[], ended: number): Sample {
  return (samples.find((sample) => sample.ended >= ended) ?? samples.at(-1)) as Sample;
}

/** @returns the peak of the second half of the time, divided by the peak of the first */
export function growth(samples: readonly Sample[]): number {
  const middle = (samples.at(-1)?.seconds ?? 0) / 2;
  const peak = (half: readonly Sample[]) => Math.max(...half.map(({ residentBytes: bytes }) => bytes));
  return peak(samples.filter(({ seconds }) => seconds > middle)) / peak(samples.filter(({ seconds }) => seconds <= middle));
}
