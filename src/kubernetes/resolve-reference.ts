/** Secrets and ConfigMaps that a DiskExport refers to: by name, in its own namespace, asked for anew each time, and not kept. */

import { DiskliftError } from '../common/errors.ts';
import type { ReferencedObject, RequestStore } from '../requests/contract.ts';
import { referencedObject } from '../requests/read-manifests.ts';
import { apiFailureOf } from './api-failure.ts';
import type { KubeApi } from './contract.ts';

export interface ReferenceResolverOptions {
  api: Pick<KubeApi, 'secrets' | 'configMaps'>;
  /** Whose objects may be asked for, and nobody else's. */
  namespace: string;
}

/**
 * It throws DiskliftError `CredentialsInvalid`, retryable where the API server may have another answer later; no message tells
 * anything that an object holds.
 */
export function createReferenceResolver({ api, namespace }: ReferenceResolverOptions): RequestStore['resolve'] {
  return async (reference): Promise<ReferencedObject | undefined> => {
    const { kind, name } = reference;
    const what = `${kind} ${reference.namespace}/${name}`;
    if (reference.namespace !== namespace)
      throw new DiskliftError('CredentialsInvalid', `${what} is not in the namespace ${namespace}, so exports of this may not use it`);
    try {
      const resource = kind === 'Secret' ? api.secrets : api.configMaps;
      const object = await resource.get({ namespace, name });
      return object === undefined ? undefined : referencedObject({ kind, namespace, name, value: { ...object }, place: [] });
    } catch (error) {
      const failure = apiFailureOf(error);
      if (failure === undefined) throw error;
      const { message, retryable, retryAfterMs } = error as DiskliftError;
      throw new DiskliftError('CredentialsInvalid', `${what} cannot be read: ${message}`, error, { retryable, retryAfterMs });
    }
  };
}
