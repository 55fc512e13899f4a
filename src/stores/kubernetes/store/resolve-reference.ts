/**
 * Reads the Secrets and ConfigMaps that a DiskExport names, from its own namespace. Each use reads them again; nothing
 * is cached.
 */

import type { Clock } from '../../../common/clock.ts';
import { DiskliftError } from '../../../common/errors.ts';
import { type Backoff, retry } from '../../../common/retry.ts';
import { REFERENCE_CODES, type ReferencedObject, type ReferenceResolver, referencedObject } from '../../../credentials/credentials.ts';
import { apiFailureOf } from '../client/api-failure.ts';
import type { ApiFailure, KubeApi } from '../client/contract.ts';

export interface ReferenceResolverOptions {
  api: Pick<KubeApi, 'secrets' | 'configMaps'>;
  /** Objects of other namespaces are refused. */
  namespace: string;
  clock: Clock;
  random(): number;
  /** Ends the wait for an API server that does not answer. */
  signal: AbortSignal;
}

const BACKOFF: Backoff = { baseMs: 1000, capMs: 15_000 };

/**
 * Answers of a proxy whose API server is unreachable, and of an overloaded API server. 500 may be caused by the object
 * itself.
 */
const OUTAGE_STATUSES: ReadonlySet<number | undefined> = new Set([undefined, 429, 502, 503, 504]);

/** Failures that another attempt would repeat. */
const FINAL_KINDS: ReadonlySet<ApiFailure['kind']> = new Set(['Forbidden', 'Invalid', 'NotFound', 'AlreadyExists', 'TooLarge']);

/**
 * Retries while the API server does not answer, so that an outage uses up no attempt of an export. Throws DiskliftError
 * `CredentialsInvalid`, or `ReferenceInvalid` for a ConfigMap, retryable where the API server may have another answer
 * later. No message contains data of the object.
 */
export function createReferenceResolver(options: ReferenceResolverOptions): ReferenceResolver['resolve'] {
  const { api, namespace } = options;
  return async (reference): Promise<ReferencedObject | undefined> => {
    const { kind, name } = reference;
    const what = `${kind} ${reference.namespace}/${name}`;
    if (reference.namespace !== namespace)
      throw new DiskliftError(REFERENCE_CODES[kind], `${what} is not in the namespace ${namespace}, so exports of this may not use it`);
    try {
      const resource = kind === 'Secret' ? api.secrets : api.configMaps;
      const object = await whenAnswered(() => resource.get({ namespace, name }), options);
      return object === undefined ? undefined : referencedObject({ kind, namespace, name, value: { ...object } });
    } catch (error) {
      const failure = apiFailureOf(error);
      if (failure === undefined) throw error;
      const { message, retryAfterMs } = error as DiskliftError;
      const retryable = !FINAL_KINDS.has(failure.kind);
      throw new DiskliftError(REFERENCE_CODES[kind], `${what} cannot be read: ${message}`, error, { retryable, retryAfterMs });
    }
  };
}

function whenAnswered<T>(ask: () => Promise<T>, { clock, random, signal }: ReferenceResolverOptions): Promise<T> {
  return retry(ask, { isRetryable: isOutage, backoff: BACKOFF, clock, random, signal });
}

function isOutage(error: unknown): boolean {
  const failure = apiFailureOf(error);
  return failure !== undefined && OUTAGE_STATUSES.has(failure.status) && !FINAL_KINDS.has(failure.kind);
}
