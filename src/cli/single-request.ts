/** One request of a store, for a process that runs it and ends. */

import { DiskliftError, type ErrorCode } from '../common/errors.ts';
import type { ServeOptions } from '../engine/serve-requests.ts';
import type { RequestStore, StoredRequest } from '../requests/contract.ts';
import type { DiskExportStatus } from '../requests/disk-export.ts';

export interface SingleRequest {
  /** The same store, in which nothing else is there. */
  store: RequestStore;
  /** @throws DiskliftError why it has not succeeded */
  requireSuccess(): void;
}

export interface SingleRequestOptions {
  store: RequestStore;
  key: string;
  /** Here nobody waits until somebody else serves it. */
  refusal: ServeOptions['refusal'];
  /** Called when the request has ended, whoever has run it. */
  onEnd(): void;
}

export function singleRequest({ store, key, refusal, onEnd }: SingleRequestOptions): SingleRequest {
  let wasThere = false;
  let failure: DiskliftError | undefined = new DiskliftError('ExecutorLost', `${key}: has not ended`);

  function end(why: DiskliftError | undefined): void {
    failure = why;
    onEnd();
  }

  function judge(stored: StoredRequest | undefined): void {
    if (stored === undefined) {
      if (wasThere) end(new DiskliftError('Cancelled', `${key}: was deleted`));
      return;
    }
    wasThere = true;
    if (stored.kind === 'invalid') {
      end(new DiskliftError('InvalidRequest', `${key}: ${stored.message}`));
      return;
    }
    const { request } = stored;
    const reason = refusal(request);
    if (request.status?.completionTime !== undefined) end(failureOf(key, request.status));
    else if (reason !== undefined) end(new DiskliftError('InvalidRequest', `${key}: ${reason}`));
  }

  return {
    store: {
      tellsUnclaimed: store.tellsUnclaimed,
      async *watch(signal) {
        for await (const each of store.watch(signal)) if (each === key) yield each;
      },
      async get(each) {
        const stored = await store.get(each);
        judge(stored);
        return stored;
      },
      claim: (each) => store.claim(each),
      writeStatus: (each, status) => store.writeStatus(each, status),
      setCleanupPending: (each, pending) => store.setCleanupPending(each, pending),
      remove: (each) => store.remove(each),
      resolve: (reference) => store.resolve(reference),
      note: (each, event) => store.note(each, event),
    },
    requireSuccess() {
      if (failure !== undefined) throw failure;
    },
  };
}

function failureOf(key: string, { phase, conditions = [], message = 'failed' }: DiskExportStatus): DiskliftError | undefined {
  if (phase === 'Succeeded') return undefined;
  const reason = conditions.find(({ type }) => type === 'Succeeded')?.reason ?? 'Failed';
  return new DiskliftError(reason as ErrorCode, `${key}: ${reason}: ${message}`);
}
