/** Exports that have ended in this process, and that the store has refused to record. */

import type { DiskExportStatus } from '../resource/disk-export.ts';
import type { Claim, RequestStore } from '../stores/contract.ts';
import { hasLeftovers } from './abandon-leftovers.ts';
import { createAcceptedWriter } from './write-accepted.ts';

interface Ended {
  /** UID of the request. */
  uid: string;
  status: DiskExportStatus;
  /** Stays held, because another process that had the export meanwhile could replace the image in part. */
  claim: Claim;
}

export interface UnrecordedEndsOptions {
  store: Pick<RequestStore, 'get' | 'writeStatus' | 'setCleanupPending'>;
  warn(message: string, key: string): void;
}

/** Without this the destination would receive the same image again and again. */
export class UnrecordedEnds {
  private readonly options: UnrecordedEndsOptions;
  private readonly ends = new Map<string, Ended>();

  constructor(options: UnrecordedEndsOptions) {
    this.options = options;
  }

  add(key: string, ended: Ended): void {
    this.ends.set(key, ended);
  }

  /** Gives the claim back. The next process runs the export again. */
  async forget(key: string): Promise<void> {
    const ended = this.ends.get(key);
    this.ends.delete(key);
    await ended?.claim.release();
  }

  async forgetAll(): Promise<void> {
    await Promise.all([...this.ends.keys()].map((key) => this.forget(key)));
  }

  /**
   * Writes the status of an export that has ended here, unless the claim was lost since. Then the export runs again.
   * @returns false where no export of this name has ended here, or its end counts no more
   * @throws DiskliftError when the store still refuses
   */
  async record(key: string): Promise<boolean> {
    const { store, warn } = this.options;
    const ended = this.ends.get(key);
    if (ended === undefined) return false;
    const stored = await store.get(key);
    if (stored?.kind !== 'request' || stored.request.metadata.uid !== ended.uid || ended.claim.lost.aborted) {
      await this.forget(key);
      return false;
    }
    await ended.claim.assertHeld();
    await createAcceptedWriter(
      (status) => store.writeStatus(key, status),
      (message) => warn(message, key),
    ).write(ended.status);
    if (!hasLeftovers(ended)) await store.setCleanupPending(key, false);
    await this.forget(key);
    return true;
  }
}
