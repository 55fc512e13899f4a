/** The validated requests of exports. One version of an object is looked at several times, and is validated once. */

import type { StoredRequest } from '../stores/contract.ts';
import type { ExportObject } from '../stores/kubernetes/client/objects.ts';
import { storedRequestOf } from '../stores/kubernetes/store/export-object.ts';

export interface StoredRequests {
  /** @returns undefined for a deleted object that only finalizers of other programs keep */
  of(key: string, object: ExportObject): StoredRequest | undefined;
}

/** More than the exports that run at a time. A validated request of each export would double the memory. */
const MAX_KEPT = 256;

export function createStoredRequests(): StoredRequests {
  const kept = new Map<string, { object: ExportObject; stored: StoredRequest | undefined }>();

  return {
    of(key, object) {
      const known = kept.get(key);
      const entry = known?.object === object ? known : { object, stored: storedRequestOf(object) };
      // The map has the order of insertion, so its first key was used least recently.
      kept.delete(key);
      kept.set(key, entry);
      for (const oldest of kept.keys()) {
        if (kept.size <= MAX_KEPT) break;
        kept.delete(oldest);
      }
      return entry.stored;
    },
  };
}
