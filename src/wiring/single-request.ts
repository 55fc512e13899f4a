/** Limits a store to one request, for a process that runs the request and ends. */

import type { Clock } from '../common/clock.ts';
import { DiskliftError, type ErrorCode } from '../common/errors.ts';
import { invalidStatusOf, waitingStatusOf } from '../engine/export-status.ts';
import type { ServeOptions } from '../engine/serve-requests.ts';
import type { DiskExport, DiskExportStatus } from '../resource/disk-export.ts';
import type { RequestStore, StoredRequest } from '../stores/contract.ts';

export interface SingleRequest {
  /** The same store with only this request. */
  store: RequestStore;
  /** Whether the outcome is known, or this process cannot serve the request. */
  hasEnded(): boolean;
  /** @throws DiskliftError why it has not succeeded; `isOutcome` where no other process can change that */
  requireSuccess(): void;
}

export interface SingleRequestOptions {
  store: RequestStore;
  key: string;
  /** A refused request ends at once: it does not wait for another process. */
  refusal: ServeOptions['refusal'];
  clock: Pick<Clock, 'nowMs'>;
  /** Called when the request has ended, also in another process. */
  onEnd(): void;
}

export function singleRequest({ store, key, refusal, clock, onEnd }: SingleRequestOptions): SingleRequest {
  let wasThere = false;
  let hasEnded = false;
  let failure: DiskliftError | undefined = new DiskliftError('ExecutorLost', `${key}: has not ended`);

  function end(why: DiskliftError | undefined): void {
    failure = why;
    hasEnded = true;
    onEnd();
  }

  async function judge(stored: StoredRequest | undefined): Promise<void> {
    if (stored === undefined) {
      if (wasThere) end(new DiskliftError('Cancelled', `${key}: was deleted`, undefined, { isOutcome: true }));
      return;
    }
    wasThere = true;
    if (stored.kind === 'invalid') {
      // A request that another version has begun may be valid there.
      const isOutcome = stored.status?.startTime === undefined;
      // No other process follows that could write this status.
      const status = invalidStatusOf(stored, clock.nowMs());
      if (status !== undefined) await write(status);
      end(new DiskliftError('InvalidRequest', `${key}: ${stored.message}`, undefined, { isOutcome }));
      return;
    }
    const { request } = stored;
    const reason = refusal(request);
    if (request.status?.completionTime !== undefined) end(failureOf(key, request.status));
    else if (reason !== undefined) {
      await reportRefusal(request, reason);
      end(new DiskliftError('InvalidRequest', `${key}: ${reason}`));
    }
  }

  /** The user sees the reason at the request, because nobody reads the log of a pod that has ended. */
  async function reportRefusal(request: DiskExport, message: string): Promise<void> {
    if (request.status !== undefined) return;
    await store.recordEvent(key, { type: 'Warning', reason: 'VolumeNotServed', message, isOnce: true });
    await write(waitingStatusOf(request, { reason: 'Unclaimed', message, nowMs: clock.nowMs() }));
  }

  /** Never fails: the process prints the same message when it ends. */
  async function write(status: DiskExportStatus): Promise<void> {
    await store.writeStatus(key, status).catch(() => {});
  }

  return {
    store: {
      showsUnclaimed: store.showsUnclaimed,
      async *watch(signal) {
        for await (const each of store.watch(signal)) if (each === key) yield each;
      },
      async get(each) {
        const stored = await store.get(each);
        await judge(stored);
        return stored;
      },
      claim: (each) => store.claim(each),
      writeStatus: (each, status) => store.writeStatus(each, status),
      setCleanupPending: (each, pending) => store.setCleanupPending(each, pending),
      remove: (each) => store.remove(each),
      resolve: (reference) => store.resolve(reference),
      recordEvent: (each, event) => store.recordEvent(each, event),
    },
    hasEnded: () => hasEnded,
    requireSuccess() {
      if (failure !== undefined) throw failure;
    },
  };
}

function failureOf(key: string, { phase, conditions = [], message = 'failed' }: DiskExportStatus): DiskliftError | undefined {
  if (phase === 'Succeeded') return undefined;
  const reason = conditions.find(({ type }) => type === 'Succeeded')?.reason ?? 'Failed';
  return new DiskliftError(reason as ErrorCode, `${key}: ${reason}: ${message}`, undefined, { isOutcome: true });
}
