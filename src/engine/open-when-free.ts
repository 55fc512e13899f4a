/** The disk of an attempt, opened when nobody writes to it. Waiting for that costs no attempt. */

import { abortable } from '../common/abortable.ts';
import { DiskliftError } from '../common/errors.ts';
import type { DiskSource } from '../sources/contract.ts';
import type { EngineContext } from './context.ts';
import type { DiskState } from './observer.ts';
import type { Phase } from './phases.ts';

/** How often a disk in use is looked at: a few system calls. */
const POLL_MS = 2000;

export interface Opening {
  /** Throws a retryable `SourceInUse` where a disk in use is to be waited for, and such an `InUseUnknown` where that will be known later. */
  openSource(signal: AbortSignal): Promise<DiskSource>;
  /** With the attempt counted that the disk is opened for. */
  state: DiskState;
  enter(phase: Phase): void;
  context: Pick<EngineContext, 'signal' | 'clock' | 'observer'>;
}

/**
 * Leaves the disk Scanning. While it is in use it is Pending, with that as its failure and without the attempt; and so it stays when
 * the wait is cancelled.
 * @throws what `openSource` throws; DiskliftError what the signal was aborted with
 */
export async function openWhenFree({ openSource, state, enter, context }: Opening): Promise<DiskSource> {
  const { signal, clock, observer } = context;
  enter('Scanning');
  let opened = await open(openSource, signal);
  if (!(opened instanceof DiskliftError)) return opened;
  const { attempts, failure } = state;
  state.attempts = attempts - 1;
  state.failure = opened;
  enter('Pending');
  observer.onWait?.(state, opened);
  try {
    while (opened instanceof DiskliftError) {
      state.failure = opened;
      await clock.delay(POLL_MS, signal);
      opened = await open(openSource, signal);
    }
  } catch (error) {
    if (!signal.aborted) state.attempts = attempts;
    throw error;
  }
  state.attempts = attempts;
  state.failure = failure;
  enter('Scanning');
  return opened;
}

/** @returns the disk, or why it has to be waited for */
async function open(openSource: Opening['openSource'], signal: AbortSignal): Promise<DiskSource | DiskliftError> {
  const opening = openSource(signal);
  try {
    return await abortable(opening, signal);
  } catch (error) {
    // Storage that hangs may open it yet.
    if (signal.aborted)
      opening.then(
        (source) => source.dispose(),
        () => {},
      );
    if (isToBeWaitedFor(error)) return error;
    throw error;
  }
}

function isToBeWaitedFor(error: unknown): error is DiskliftError {
  return error instanceof DiskliftError && error.retryable && (error.code === 'SourceInUse' || error.code === 'InUseUnknown');
}
