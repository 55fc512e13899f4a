/** Bounds every call of a store of requests, so that a hanging API server or network file system cannot keep the process. */

import { abortable } from '../common/abortable.ts';
import type { Clock } from '../common/clock.ts';
import { DiskliftError } from '../common/errors.ts';
import { startTimeLimitAfter } from '../common/time-limit.ts';
import { withinLimit } from '../common/within-limit.ts';
import type { Claim, RequestStore } from '../requests/contract.ts';

const CLOSE_MS = 800;

export interface BoundedStoreOptions {
  clock: Clock;
  /** Aborted when the process must end. */
  stopping: AbortSignal;
  warn(message: string, key?: string): void;
}

/** Limit of `get` and `claim`. */
const ANSWER_MS = 60_000;

/** Limit of the last writes after SIGTERM. The process has ten seconds in all. */
export const FAREWELL_MS = 4000;

export interface BoundedStore extends RequestStore {
  /** Stops watching for the end of the process. */
  close(): void;
}

/**
 * - `watch`, `get`, `claim` and `note` end at once when the process must end; `get` and `claim` take a minute at most.
 * - Writes end {@link FAREWELL_MS} after the process must end. Before that they may wait for an API server that does not answer.
 * - A claim that arrives after the limit is released. `release` never fails.
 */
export function boundStore(store: RequestStore, { clock, stopping, warn }: BoundedStoreOptions): BoundedStore {
  const ended = new DiskliftError('ExecutorLost', 'the process ends, and the store of requests does not answer');
  const farewell = startTimeLimitAfter(stopping, { clock, limitMs: FAREWELL_MS, expired: ended });

  function answered<T>(call: Promise<T>, what: string): Promise<T> {
    const late = () =>
      new DiskliftError(
        'StoreUnavailable',
        `${what}: the store of requests has not answered for ${ANSWER_MS / 1000} s; look at its storage`,
      );
    return withinLimit(call, { limitMs: ANSWER_MS, clock, signal: stopping, late });
  }

  async function release(key: string, claim: Claim): Promise<void> {
    const late = () => new DiskliftError('StoreUnavailable', `not within ${FAREWELL_MS / 1000} s`);
    try {
      await withinLimit(claim.release(), { limitMs: FAREWELL_MS, clock, signal: farewell.signal, late });
    } catch (error) {
      warn(`the claim cannot be released, and runs out by itself: ${(error as Error).message}`, key);
    }
  }

  return {
    tellsUnclaimed: store.tellsUnclaimed,
    async *watch(signal) {
      const keys = store.watch(signal)[Symbol.asyncIterator]();
      try {
        for (;;) {
          const { done, value } = await abortable(keys.next(), signal);
          if (done) return;
          yield value;
        }
      } catch (error) {
        if (!signal.aborted) throw error;
      } finally {
        // The generator closes its resources only after its pending call has ended, which may never happen.
        const closed = Promise.resolve(keys.return?.());
        const late = () => new DiskliftError('StoreUnavailable', 'not within a second');
        await withinLimit(closed, { limitMs: CLOSE_MS, clock, signal: farewell.signal, late }).catch(() => {});
      }
    },
    get: (key) => answered(store.get(key), `get ${key}`),
    async claim(key) {
      const claiming = store.claim(key);
      let claim: Claim | undefined;
      try {
        claim = await answered(claiming, `claim ${key}`);
      } catch (error) {
        claiming.then((late) => late?.release()).catch(() => {});
        throw error;
      }
      if (claim === undefined) return undefined;
      const lost = lostSignal(claim);
      const ends = AbortSignal.any([farewell.signal, lost]);
      return { lost, confirm: () => abortable(claim.confirm(), ends), release: () => release(key, claim) };
    },
    writeStatus: (key, status) => abortable(store.writeStatus(key, status), farewell.signal),
    setCleanupPending: (key, pending) => abortable(store.setCleanupPending(key, pending), farewell.signal),
    remove: (key) => abortable(store.remove(key), farewell.signal),
    resolve: (reference) => abortable(store.resolve(reference), stopping),
    note: (key, event) => abortable(store.note(key, event), stopping).catch(() => {}),
    close: () => farewell.stop(),
  };
}

/** The claim's signal; the reason of its abort is the store's choice. */
function lostSignal({ lost }: Claim): AbortSignal {
  const controller = new AbortController();
  const onLost = () => controller.abort(new DiskliftError('ExecutorLost', 'the claim was lost'));
  if (lost.aborted) onLost();
  else lost.addEventListener('abort', onLost, { once: true });
  return controller.signal;
}
