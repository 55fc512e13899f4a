/**
 * A store of requests: the DiskExports of the API server, or of a directory of manifests. Keys are `NAMESPACE/NAME`.
 *
 * The engine calls, in this order:
 * 1. `watch`, once. It yields every key at first, and then each key that may need work.
 * 2. `get(key)` for each key that was yielded. It shows the request, or undefined.
 * 3. `claim(key)` before any work. Undefined: another process has the claim, and `watch` yields the key again when that
 *    may have ended.
 * 4. `writeStatus(key)` after each change, and `setCleanupPending(key, true)` before an upload is opened at the
 *    destination.
 * 5. `Claim.assertHeld()` before anything irreversible: a commit, an abort of an upload.
 * 6. `setCleanupPending(key, false)` when nothing is open any more, and `Claim.release()` at the end, whatever has
 *    happened.
 *
 * `remove(key)` deletes a finished request after its time to live. `resolve` reads Secrets and ConfigMaps. It and
 * `recordEvent` may be called at any time.
 *
 * Every failure is a DiskliftError:
 * - `StoreUnavailable`, retryable: the store does not answer, or its storage fails.
 * - `StoreRefused`: the store refuses (a Role, a quota, a read-only directory). Retryable, because an administrator may
 *   correct it. A status that the schema does not accept is not retryable.
 * - `ExecutorLost`, not retryable: another process owns the export or may own it. The caller stops its work and writes
 *   nothing more.
 * - `Cancelled`: the object is being deleted, or the process ends.
 */

import type { ReferenceResolver } from '../credentials/credentials.ts';
import type { DiskExport, DiskExportStatus } from '../resource/disk-export.ts';

/** A request as the store shows it. */
export type StoredRequest =
  /**
   * Valid, with all defaults filled in. `isTerminating`: the request was deleted while clean-up was pending. The engine
   * then only aborts open uploads and calls `setCleanupPending(key, false)`, after which the request is removed.
   */
  | { kind: 'request'; request: DiskExport; isTerminating: boolean }
  /** The manifest or object is not a valid DiskExport; `message` names the field. */
  | { kind: 'invalid'; message: string; status: DiskExportStatus | undefined };

/** The right of this process alone to work on a request. */
export interface Claim {
  /** Aborted when the claim is lost. */
  readonly lost: AbortSignal;
  /**
   * To be awaited before anything irreversible.
   * @throws DiskliftError `ExecutorLost` when another process may have the claim
   */
  assertHeld(): Promise<void>;
  /** Lets other processes claim the request at once. Never fails: a claim that cannot be released expires. */
  release(): Promise<void>;
}

export interface RequestEvent {
  type: 'Normal' | 'Warning';
  /** One word in CamelCase. */
  reason: string;
  message: string;
  /** For a lasting state: the event is not counted again when this or another process records it again. */
  isOnce?: boolean;
}

export interface RequestStore extends ReferenceResolver {
  /**
   * Whether a request without a status shows users that no process has started it, as the CRD's default status does.
   */
  readonly showsUnclaimed: boolean;
  /**
   * Yields the keys of all requests at first. Then it yields each key whose request was added, changed or removed, or
   * may be claimable again. A key may come without a cause. Ends when `signal` is aborted; claims stay until they are
   * released. Never fails.
   */
  watch(signal: AbortSignal): AsyncIterable<string>;
  /**
   * Undefined when the request does not exist or was removed. The holder of its claim then cancels its work and
   * releases the claim, which also removes the status. A new request under the same key is shown only after that.
   * @throws DiskliftError `StoreUnavailable`, `StoreRefused`
   */
  get(key: string): Promise<StoredRequest | undefined>;
  /**
   * Undefined when another process holds the claim.
   * @throws DiskliftError `StoreRefused`, `StoreUnavailable` when no process can hold it
   */
  claim(key: string): Promise<Claim | undefined>;
  /**
   * Replaces the whole status. The first status also records the accepted request.
   * @throws DiskliftError `StoreUnavailable`, `StoreRefused`; `ExecutorLost` when another process may write the status
   */
  writeStatus(key: string, status: DiskExportStatus): Promise<void>;
  /**
   * Records whether an upload is open at a destination. While it is, the request is not removed before the upload has
   * been aborted.
   * @throws DiskliftError as `writeStatus`; `Cancelled` when a request that is being deleted should become pending
   */
  setCleanupPending(key: string, pending: boolean): Promise<void>;
  /**
   * Deletes the request, and its status when no claim is left.
   * @throws DiskliftError when the request cannot be deleted
   */
  remove(key: string): Promise<void>;
  /** Records an event for users: an Event of the API server, or a log line. Never fails. */
  recordEvent(key: string, event: RequestEvent): Promise<void>;
}
