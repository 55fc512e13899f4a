/** Where requests come from and their status goes: the API server, or a directory of manifests. */

import type { ReferenceResolver } from '../credentials/credentials.ts';
import type { DiskExport, DiskExportStatus } from '../resource/disk-export.ts';

/** What the store holds under a key. */
export type StoredRequest =
  /**
   * Valid, with all defaults filled in. `isTerminating`: it was deleted while clean-up was pending; nothing may be done for it any
   * more but to drop what is held open, and to say so by `setCleanupPending(key, false)`, with which it goes away.
   */
  | { kind: 'request'; request: DiskExport; isTerminating: boolean }
  /** Somebody has asked for something that cannot be done as it stands. */
  | { kind: 'invalid'; message: string; status: DiskExportStatus | undefined };

/** That this process and no other works on a request. */
export interface Claim {
  /** Aborted when the claim is lost. */
  readonly lost: AbortSignal;
  /** To be awaited before anything irreversible. @throws DiskliftError `ExecutorLost` when the claim is not surely held any more */
  assertHeld(): Promise<void>;
  release(): Promise<void>;
}

export interface RequestEvent {
  type: 'Normal' | 'Warning';
  /** One word in CamelCase. */
  reason: string;
  message: string;
  /** What is so once and stays so: it is not counted when another process, or this one, tells it again. */
  isOnce?: boolean;
}

/** Keys are `NAMESPACE/NAME`. */
export interface RequestStore extends ReferenceResolver {
  /** Whether people see of a request without a status that nobody has begun with it. */
  readonly showsUnclaimed: boolean;
  /**
   * The keys of all requests at first, then of each that has come, changed or gone, or that can be claimed after all. A key may
   * come without a cause. Ends when `signal` is aborted; claims stay until they are released.
   */
  watch(signal: AbortSignal): AsyncIterable<string>;
  /**
   * Undefined when there is none, or none any more: whoever works on it cancels and releases the claim, with which the status of
   * a request that is gone goes away, too. A new request under the same key is shown only after that.
   */
  get(key: string): Promise<StoredRequest | undefined>;
  /** Undefined when another process holds the claim. @throws DiskliftError `StoreRefused`, `StoreUnavailable` when none can hold it */
  claim(key: string): Promise<Claim | undefined>;
  /**
   * The first status also records the accepted request.
   * @throws DiskliftError `StoreUnavailable`, `StoreRefused`; `ExecutorLost` when another process may write the status
   */
  writeStatus(key: string, status: DiskExportStatus): Promise<void>;
  /** Whether something is held open at a destination that must be dropped before the request may go away. */
  setCleanupPending(key: string, pending: boolean): Promise<void>;
  /** Deletes the request, and its status when no claim is left. @throws DiskliftError when it stays */
  remove(key: string): Promise<void>;
  /** Tells people what happened. Never fails. */
  recordEvent(key: string, event: RequestEvent): Promise<void>;
}
