/** The message of an export that waits for a slot, with its place in the queue. Pure. */

import type { Report } from './decision.ts';
import type { SlotQueue } from './slot-queue.ts';

export interface QueueMessages {
  /** @returns what the status should say; undefined when the last message is close enough */
  reportOf(key: string): Report | undefined;
  /** Keys whose message should be written again. */
  outdated(): string[];
  forget(key: string): void;
  readonly refreshMs: number;
}

const REFRESH_MS = 15_000;

/**
 * A place is written again when it has halved. Each of 10,000 exports that wait is then written 14 times at most, and
 * not once for each export that ends.
 */
export function createQueueMessages(slots: SlotQueue): QueueMessages {
  const written = new Map<string, number>();

  function isOutdated(key: string, ahead: number): boolean {
    const last = written.get(key);
    if (ahead === last) return false;
    return last === undefined || ahead <= last / 2 || ahead > 2 * last + 8;
  }

  return {
    refreshMs: REFRESH_MS,
    reportOf(key) {
      const ahead = slots.ahead(key);
      if (ahead === undefined || !isOutdated(key, ahead)) return undefined;
      written.set(key, ahead);
      const place = ahead === 0 ? 'it is the next one' : ahead === 1 ? '1 export comes before it' : `${ahead} exports come before it`;
      const message = `waits for a slot: ${slots.reasonOf(key)}; ${place}`;
      // The time since which the source is not ready begins anew after the wait.
      return { reason: 'Queued', message, sourceReady: { status: 'Unknown', reason: 'Queued', message } };
    },
    outdated: () => slots.waiting().filter(isOutdated),
    forget: (key) => void written.delete(key),
  };
}
