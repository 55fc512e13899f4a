/**
 * Asking for data before the kernel is to move it. A move waits for one page after the other, with a read-ahead of some
 * 128 KiB, and returns little at a time; with the pages on their way, cold storage is kept as busy as by parallel reads.
 */

import { MIB } from '../../common/bytes.ts';
import type { VirtualImage } from '../../image/contract.ts';
import { createCachedReader } from '../../native/cached-read.ts';
import type { Libc } from '../../native/libc.ts';
import { prefetchPages } from '../../native/page-cache.ts';

/** Enough for storage that answers late; little enough that pages are still cached when their turn comes. */
const AHEAD_BYTES = 16 * MIB;

/** One request to the kernel. */
const STEP_BYTES = 2 * MIB;

/** Each takes a thread of the pool while it is being accepted. */
const REQUESTS_IN_FLIGHT = 3;

export interface Prefetcher {
  /** To be called as the transfer proceeds, with the offset in the image that it has reached. */
  advanceTo(imageOffset: number): void;
}

/** @param end behind the last byte of the image that will be moved */
export function createPrefetcher(libc: Libc, { fd, runs }: NonNullable<VirtualImage['direct']>, end: number): Prefetcher {
  const steps = stepsOf(runs(0, end));
  let next = steps.next();
  let inFlight = 0;
  const cached = createCachedReader(1);

  /** Judged by both ends; a wrong guess costs time only. */
  function isCached(offset: number, length: number): boolean {
    return cached?.read(fd, offset) === true && cached.read(fd, offset + length - 1);
  }

  return {
    advanceTo(imageOffset) {
      while (!next.done && inFlight < REQUESTS_IN_FLIGHT && next.value.imageOffset < imageOffset + AHEAD_BYTES) {
        const { imageOffset: stepOffset, sourceOffset, length } = next.value;
        next = steps.next();
        const isPassed = stepOffset + length <= imageOffset;
        if (isPassed || isCached(sourceOffset, length)) continue;
        inFlight += 1;
        prefetchPages(libc, fd, sourceOffset, length).finally(() => {
          inFlight -= 1;
        });
      }
    },
  };
}

interface Step {
  imageOffset: number;
  sourceOffset: number;
  length: number;
}

function* stepsOf(runs: ReturnType<NonNullable<VirtualImage['direct']>['runs']>): Generator<Step> {
  for (const run of runs) {
    if (run.kind !== 'data') continue;
    for (let done = 0; done < run.length; done += STEP_BYTES)
      yield { imageOffset: run.imageOffset + done, sourceOffset: run.sourceOffset + done, length: Math.min(STEP_BYTES, run.length - done) };
  }
}
