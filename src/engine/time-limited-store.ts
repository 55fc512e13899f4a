/**
 * Bounds every call of a store of requests, so that a hanging API server or network file system cannot keep the process
 * from ending. Reports to the observers what was read and what is written.
 */

import { abortable } from '../common/abortable.ts';
import type { Clock } from '../common/clock.ts';
import { DiskliftError } from '../common/errors.ts';
import { startTimeLimit, withinLimit } from '../common/time-limit.ts';
import type { Claim, RequestStore } from '../stores/contract.ts';
import type { RequestObserver } from './observer.ts';

const CLOSE_MS = 800;

export interface TimeLimitedStoreOptions {
  clock: Clock;
  /** Aborted when the process must end. */
  stopping: AbortSignal;
  observers: readonly RequestObserver[];
  warn(message: string, key?: string): void;
}

/** Limit of `get` and `claim`. */
const ANSWER_MS = 60_000;

/** Limit of calls after SIGTERM that the next process can make as well. */
export const QUICK_FAREWELL_MS = 1000;

/** Limit of a call that begins after {@link QUICK_FAREWELL_MS}. */
const LAST_CALL_MS = 400;

/**
 * Limit after SIGTERM of calls that the next process cannot make up for: without its final status an export is sent
 * again, and an object that keeps its finalizer cannot be deleted. The process has ten seconds in all.
 */
export const FAREWELL_MS = 4000;

export interface TimeLimitedStore extends RequestStore {
  /** Stops watching for the end of the process. */
  close(): void;
}

/**
 * - `watch`, `get`, `claim` and `recordEvent` end at once when the process must end; `get` and `claim` take a minute at
 *   most.
 * - Writes end {@link QUICK_FAREWELL_MS} after the process must end; final statuses, and releases of exports whose
 *   clean-up is pending, {@link FAREWELL_MS}. Before that they may wait for an API server that does not answer.
 * - A claim that arrives after the limit is released. `release` never fails.
 */
export function limitStoreCalls(store: RequestStore, { clock, stopping, observers, warn }: TimeLimitedStoreOptions): TimeLimitedStore {
  const ended = new DiskliftError('ExecutorLost', 'the process ends, and the store of requests does not answer');
  const farewell = startTimeLimit({ clock, limitMs: FAREWELL_MS, expired: ended, after: stopping });
  const quick = startTimeLimit({ clock, limitMs: QUICK_FAREWELL_MS, expired: ended, after: stopping });
  /** Requests whose clean-up this process has marked as pending. */
  const guarded = new Set<string>();

  function quickly<T>(call: Promise<T>): Promise<T> {
    if (!quick.signal.aborted) return abortable(call, quick.signal);
    return withinLimit(call, { limitMs: LAST_CALL_MS, clock, signal: farewell.signal, late: () => ended });
  }

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
      const released = withinLimit(claim.release(), { limitMs: FAREWELL_MS, clock, signal: farewell.signal, late });
      await (guarded.has(key) ? released : quickly(released));
    } catch (error) {
      warn(`the claim cannot be released, and expires by itself: ${(error as Error).message}`, key);
    }
  }

  return {
    showsUnclaimed: store.showsUnclaimed,
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
    async get(key) {
      const stored = await answered(store.get(key), `get ${key}`);
      for (const observer of observers) observer.onRead?.(key, stored);
      return stored;
    },
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
      return { lost, assertHeld: () => abortable(claim.assertHeld(), ends), release: () => release(key, claim) };
    },
    writeStatus(key, status) {
      for (const observer of observers) observer.onStatus?.(key, status);
      const written = store.writeStatus(key, status);
      return status.completionTime === undefined ? quickly(written) : abortable(written, farewell.signal);
    },
    async setCleanupPending(key, pending) {
      if (pending) guarded.add(key);
      await quickly(store.setCleanupPending(key, pending));
      if (!pending) guarded.delete(key);
    },
    async remove(key) {
      await quickly(store.remove(key));
      for (const observer of observers) observer.onRead?.(key, undefined);
    },
    resolve: (reference) => abortable(store.resolve(reference), stopping),
    recordEvent: (key, event) => abortable(store.recordEvent(key, event), stopping).catch(() => {}),
    close() {
      quick.stop();
      farewell.stop();
    },
  };
}

/** The claim's signal with a reason of the engine's: a store may abort with any reason. */
function lostSignal({ lost }: Claim): AbortSignal {
  const controller = new AbortController();
  const onLost = () => controller.abort(new DiskliftError('ExecutorLost', 'the claim was lost'));
  if (lost.aborted) onLost();
  else lost.addEventListener('abort', onLost, { once: true });
  return controller.signal;
}
