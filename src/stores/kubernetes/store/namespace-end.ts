/**
 * Whether the namespace is being deleted, for a process that holds objects in it back. The Role goes with the namespace, and whoever
 * finds out by its objects has no right any more to let go of them. The namespace controller gives five seconds before it begins.
 */

import type { Clock } from '../../../common/clock.ts';
import { DiskliftError } from '../../../common/errors.ts';
import { isApiFailure } from '../client/api-failure.ts';
import type { KubeApi } from '../client/contract.ts';

export interface NamespaceEndOptions {
  namespaces: KubeApi['namespaces'];
  namespace: string;
  /** Whether anything is held back; else nobody is asked. */
  isNeeded(): boolean;
  clock: Clock;
  /** Ends the wait. */
  signal: AbortSignal;
  warn(message: string): void;
}

const POLL_MS = 1500;

/** @returns whether the namespace is being deleted; false when `signal` was aborted, or nobody may know. Never throws. */
export async function untilNamespaceEnds({ namespaces, namespace, isNeeded, clock, signal, warn }: NamespaceEndOptions): Promise<boolean> {
  for (;;) {
    try {
      await clock.delay(POLL_MS, signal);
      if (isNeeded() && (await namespaces.get(namespace, { signal, limitMs: POLL_MS }))?.metadata.deletionTimestamp !== undefined)
        return true;
    } catch (error) {
      if (signal.aborted || !(error instanceof DiskliftError)) return false;
      // What passes is asked again. The API server knows of it, and so will the next answer.
      if (!isApiFailure(error, 'Forbidden')) continue;
      warn(`where the namespace is deleted while an upload is open, DiskExports stay behind: ${error.message}`);
      return false;
    }
  }
}
