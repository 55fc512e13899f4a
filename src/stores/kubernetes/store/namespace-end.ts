/**
 * Detects that the namespace is being deleted while this process has finalizers in it. The Role is deleted with the
 * namespace. A process that notices only by its objects may not remove its finalizers any more. The namespace
 * controller waits five seconds before it deletes anything.
 */

import type { Clock } from '../../../common/clock.ts';
import { DiskliftError } from '../../../common/errors.ts';
import { isApiFailure } from '../client/api-failure.ts';
import type { KubeApi } from '../client/contract.ts';

export interface NamespaceEndOptions {
  namespaces: KubeApi['namespaces'];
  namespace: string;
  /** Whether this process has a finalizer on any object. The namespace is read only then. */
  isNeeded(): boolean;
  clock: Clock;
  /** Ends the wait. */
  signal: AbortSignal;
  warn(message: string): void;
}

const POLL_MS = 1500;

/**
 * @returns whether the namespace is being deleted; false when `signal` was aborted, or the Role forbids to read it.
 * Never throws.
 */
export async function untilNamespaceEnds({ namespaces, namespace, isNeeded, clock, signal, warn }: NamespaceEndOptions): Promise<boolean> {
  for (;;) {
    try {
      await clock.delay(POLL_MS, signal);
      if (isNeeded() && (await namespaces.get(namespace, { signal, limitMs: POLL_MS }))?.metadata.deletionTimestamp !== undefined)
        return true;
    } catch (error) {
      if (signal.aborted || !(error instanceof DiskliftError)) return false;
      // A temporary failure: the next poll reads the namespace again.
      if (!isApiFailure(error, 'Forbidden')) continue;
      warn(`where the namespace is deleted while an upload is open, DiskExports stay behind: ${error.message}`);
      return false;
    }
  }
}
