/** An export that gave its slot back for a wait takes one again before it goes on. */

import type { EngineContext } from './context.ts';
import type { DiskState } from './observer.ts';
import type { Phase } from './phases.ts';

export interface SlotWaiter {
  state: DiskState;
  enter(phase: Phase): void;
  context: Pick<EngineContext, 'signal' | 'slot'>;
}

/**
 * Leaves the disk Pending, and says for as long as it waits that it does. The export goes ahead of those that came later: its deadline
 * runs, and its destination may hold an upload open.
 * @throws DiskliftError the reason of the signal's abort; then no slot is held
 */
export async function waitForSlot({ state, enter, context: { signal, slot } }: SlotWaiter): Promise<void> {
  if (slot === undefined) return;
  state.isQueued = true;
  enter('Pending');
  try {
    await slot.acquire(signal);
  } finally {
    state.isQueued = false;
  }
}
