/** Bounds calls to files that a command needs before it starts, so that dead storage ends it with a message. */

import type { Clock } from './clock.ts';
import { DiskliftError } from './errors.ts';
import { withinLimit } from './within-limit.ts';

export interface StorageWait {
  clock: Clock;
  signal: AbortSignal;
}

export const STORAGE_LIMIT_MS = 30_000;

/**
 * @param file names the storage in the message
 * @throws the failure of `call`; DiskliftError `InvalidRequest` after {@link STORAGE_LIMIT_MS}; `Cancelled` at once
 */
export function awaitStorage<T>(file: string, call: Promise<T>, { clock, signal }: StorageWait): Promise<T> {
  const text = `${file}: its storage has not answered for ${STORAGE_LIMIT_MS / 1000} s; look at the mount, or name a file elsewhere`;
  return withinLimit(call, { limitMs: STORAGE_LIMIT_MS, clock, signal, late: () => new DiskliftError('InvalidRequest', text) });
}
