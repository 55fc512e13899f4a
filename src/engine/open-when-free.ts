/** The disk of an attempt, opened when nobody writes to it. Waiting for that costs no attempt. */

import { abortable, throwIfAborted } from '../common/abortable.ts';
import { DiskliftError } from '../common/errors.ts';
import { openUnlessAborted } from '../image/prepare-image.ts';
import type { DiskSource } from '../sources/contract.ts';
import type { EngineContext } from './context.ts';
import type { DiskState } from './observer.ts';
import type { Phase } from './phases.ts';
import { waitForSlot } from './wait-for-slot.ts';

/** How often a disk in use is looked at: a few system calls. */
const POLL_MS = 2000;

export interface Opening {
  /** Throws a retryable `SourceInUse` where a disk in use is to be waited for, and such an `InUseUnknown` where that will be known later. */
  openSource(signal: AbortSignal): Promise<DiskSource>;
  /** With the attempt counted that the disk is opened for. */
  state: DiskState;
  enter(phase: Phase): void;
  context: Pick<EngineContext, 'signal' | 'clock' | 'observer' | 'slot'>;
}

/**
 * Leaves the disk Scanning. While it is in use it is Pending, with that as its failure and without the attempt; and so it stays when
 * the wait is cancelled.
 *
 * While the disk is in use the export gives its slot back, because a VM can run for weeks. When the disk is free it takes a slot again,
 * ahead of exports that were queued later. Other exports do not starve, because the slot is given back at once when the disk is in use again.
 * @throws what `openSource` throws, with the slot held; DiskliftError the reason of the signal's abort, maybe without the slot
 */
export async function openWhenFree(opening: Opening): Promise<DiskSource> {
  const { state, enter, context } = opening;
  const { signal, observer, slot } = context;
  enter('Scanning');
  let opened = await open(opening);
  if (!(opened instanceof DiskliftError)) return opened;
  const { attempts, failure } = state;
  state.attempts = attempts - 1;
  state.failure = opened;
  enter('Pending');
  observer.onWait?.(state, opened);
  try {
    while (opened instanceof DiskliftError) {
      slot?.pause();
      await untilFree(opening);
      // That the disk is in use is not true any more.
      state.failure = failure;
      await waitForSlot(opening);
      opened = await open(opening);
      if (!(opened instanceof DiskliftError)) break;
      // Somebody was faster.
      state.failure = opened;
      enter('Pending');
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

async function untilFree(opening: Opening): Promise<void> {
  const { state, context } = opening;
  for (;;) {
    await context.clock.delay(POLL_MS, context.signal);
    const inUse = await look(opening);
    if (inUse === undefined) return;
    state.failure = inUse;
  }
}

/** @returns why the disk has to be waited for. It is closed again, so that nobody is kept from it by an export that waits for a slot. */
async function look(opening: Opening): Promise<DiskliftError | undefined> {
  const { signal } = opening.context;
  try {
    const opened = await open(opening);
    if (opened instanceof DiskliftError) return opened;
    await abortable(opened.dispose(), signal);
  } catch (error) {
    throwIfAborted(signal);
    // Whatever else is wrong with it will be so when it is opened to be read.
    if (!(error instanceof DiskliftError)) throw error;
  }
  return undefined;
}

/** @returns the disk, or why it has to be waited for */
async function open({ openSource, context: { signal } }: Opening): Promise<DiskSource | DiskliftError> {
  try {
    return await openUnlessAborted(openSource(signal), signal);
  } catch (error) {
    if (isToBeWaitedFor(error)) return error;
    throw error;
  }
}

function isToBeWaitedFor(error: unknown): error is DiskliftError {
  return error instanceof DiskliftError && error.retryable && (error.code === 'SourceInUse' || error.code === 'InUseUnknown');
}
