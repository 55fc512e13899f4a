/** Aborts what an export has left open at its destination, in a process that does nothing else. */

import { DiskliftError } from '../common/errors.ts';
import { type CleanUp, cleanUpRequest } from '../engine/clean-up-request.ts';
import { limitStoreCalls } from '../engine/time-limited-store.ts';

export interface CleanUpOnce extends CleanUp {
  key: string;
  /** Whether the store has listed its requests. Before that a missing request proves nothing. */
  hasListed(): boolean;
}

/** Another process may hold the claim, which expires when that process is dead. */
const LOOK_AGAIN_MS = 1000;

/**
 * Resolves when nothing is open any more, or when the request is gone.
 * @throws DiskliftError when an upload may still be open; the reason of `stopping`
 */
export async function cleanUpOnce({ key, hasListed, ...options }: CleanUpOnce): Promise<void> {
  const { clock, stopping, warn } = options;
  let isLeft: string | undefined;
  const store = limitStoreCalls(options.store, { ...options, observers: [], warn: (message) => warn(message, key) });
  try {
    while (!hasListed()) await clock.delay(LOOK_AGAIN_MS / 10, stopping);
    const cleanUp = { ...options, store, evenActive: true, warn: (message: string) => (isLeft = message) };
    while (!(await cleanUpRequest(key, cleanUp))) {
      if ((await store.get(key)) === undefined) break;
      await clock.delay(LOOK_AGAIN_MS, stopping);
    }
  } finally {
    store.close();
  }
  if (isLeft !== undefined) throw new DiskliftError('DestinationUnreachable', `${key}: ${isLeft}`);
}
