/**
 * Asking for data before the kernel is to move it. A move waits for one page after the other, with a read-ahead of some
 * 128 KiB, and returns little at a time; with the pages on their way, cold storage is kept as busy as by parallel reads.
 */

import { MIB } from '../../common/bytes.ts';
import type { PlacedRun } from '../../image/contract.ts';
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

/** @param runs all that will be moved, in order */
export function createPrefetcher(libc: Libc, runs: Iterable<PlacedRun>): Prefetcher {
  const steps = stepsOf(runs);
  let next = steps.next();
  let inFlight = 0;
  const cached = createCachedReader(1);

  /** Judged by both ends; a wrong guess costs time only. */
  function isCached({ fd, fileOffset, length }: PlacedRun): boolean {
    return cached?.read(fd, fileOffset) === true && cached.read(fd, fileOffset + length - 1);
  }

  return {
    advanceTo(imageOffset) {
      while (!next.done && inFlight < REQUESTS_IN_FLIGHT && next.value.imageOffset < imageOffset + AHEAD_BYTES) {
        const step = next.value;
        next = steps.next();
        const isPassed = step.imageOffset + step.length <= imageOffset;
        if (isPassed || isCached(step)) continue;
        inFlight += 1;
        prefetchPages(libc, step.fd, step.fileOffset, step.length).finally(() => {
          inFlight -= 1;
        });
      }
    },
  };
}

function* stepsOf(runs: Iterable<PlacedRun>): Generator<PlacedRun> {
  for (const { imageOffset, fileOffset, length, fd } of runs)
    for (let done = 0; done < length; done += STEP_BYTES)
      yield { imageOffset: imageOffset + done, length: Math.min(STEP_BYTES, length - done), fd, fileOffset: fileOffset + done };
}
