/** Opens the disk of an attempt when no other process writes to it, and waits for slots. Waiting uses no attempt. */

import { abortable, throwIfAborted } from '../common/abortable.ts';
import { DiskliftError } from '../common/errors.ts';
import { openUnlessAborted } from '../image/prepare-image.ts';
import type { TrackedSource } from '../sources/changed/contract.ts';
import type { DiskPlan, EngineContext } from './contract.ts';
import type { DiskState, Phase } from './observer.ts';

/** A look at a disk in use takes a few system calls. */
const POLL_MS = 2000;

export interface SlotWait {
  state: DiskState;
  enter(phase: Phase): void;
  context: Pick<EngineContext, 'signal' | 'slot'>;
}

/**
 * Acquires a slot again after a wait. Until then the disk is Pending and its status says that it is queued. The export
 * goes ahead of exports that came later: its deadline runs, and its destination may hold an upload open.
 * @throws DiskliftError the reason of the signal's abort; then no slot is held
 */
export async function waitForSlot({ state, enter, context: { signal, slot } }: SlotWait): Promise<void> {
  if (slot === undefined) return;
  state.isQueued = true;
  enter('Pending');
  try {
    await slot.acquire(signal);
  } finally {
    state.isQueued = false;
  }
}

export interface Opening extends SlotWait, Pick<DiskPlan, 'openSource'> {
  /** Its `attempts` include the one for which the disk is opened. */
  state: DiskState;
  context: Pick<EngineContext, 'signal' | 'clock' | 'observer' | 'slot'>;
}

/**
 * Opens the disk and leaves it Scanning. While the disk is in use it is Pending: its failure says why, and the attempt
 * is not counted. A cancelled wait leaves that state.
 *
 * While the disk is in use the export gives its slot back, because a VM can run for weeks. When the disk is free it
 * acquires a slot again, ahead of exports that were queued later. Other exports do not starve, because the slot is
 * given back at once when the disk is in use again.
 * @throws what `openSource` throws, with the slot held; DiskliftError the reason of the signal's abort, maybe without
 * the slot
 */
export async function openWhenFree(opening: Opening): Promise<TrackedSource> {
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
      // The disk is free now; its failure must not say otherwise.
      state.failure = failure;
      await waitForSlot(opening);
      opened = await open(opening);
      if (!(opened instanceof DiskliftError)) break;
      // Another process has opened the disk since the last look.
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

/**
 * @returns why the disk is in use, or undefined. Closes the disk again, because an export without a slot must not lock
 * it.
 */
async function look(opening: Opening): Promise<DiskliftError | undefined> {
  const { signal } = opening.context;
  try {
    const opened = await open(opening);
    if (opened instanceof DiskliftError) return opened;
    await abortable(opened.dispose(), signal);
  } catch (error) {
    throwIfAborted(signal);
    // The attempt opens the disk again, and meets any other failure then.
    if (!(error instanceof DiskliftError)) throw error;
  }
  return undefined;
}

/** @returns the disk, or why it is in use */
async function open({ openSource, context: { signal } }: Opening): Promise<TrackedSource | DiskliftError> {
  try {
    return await openUnlessAborted(openSource(signal), signal);
  } catch (error) {
    if (isInUse(error)) return error;
    throw error;
  }
}

function isInUse(error: unknown): error is DiskliftError {
  return error instanceof DiskliftError && error.retryable && (error.code === 'SourceInUse' || error.code === 'InUseUnknown');
}
