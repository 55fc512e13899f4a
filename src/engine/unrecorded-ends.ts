/** Exports that have ended in this process while the store refused their final status. */

import type { DiskExportStatus } from '../resource/disk-export.ts';
import type { Claim, RequestStore } from '../stores/contract.ts';
import { hasLeftovers } from './clean-up-request.ts';
import { createAcceptedWriter } from './status-writer.ts';

interface Ended {
  /** UID of the request. */
  uid: string;
  status: DiskExportStatus;
  /** Stays held, because another process could run the export again and replace the image. */
  claim: Claim;
}

export interface UnrecordedEndsOptions {
  store: Pick<RequestStore, 'get' | 'writeStatus' | 'setCleanupPending'>;
  warn(message: string, key: string): void;
}

/**
 * Keeps final statuses until the store accepts them. Otherwise the destination would receive the same image again and
 * again.
 */
export class UnrecordedEnds {
  private readonly options: UnrecordedEndsOptions;
  private readonly ends = new Map<string, Ended>();

  constructor(options: UnrecordedEndsOptions) {
    this.options = options;
  }

  add(key: string, ended: Ended): void {
    this.ends.set(key, ended);
  }

  /** Releases the claim. The next process runs the export again. */
  async forget(key: string): Promise<void> {
    const ended = this.ends.get(key);
    this.ends.delete(key);
    await ended?.claim.release();
  }

  async forgetAll(): Promise<void> {
    await Promise.all([...this.ends.keys()].map((key) => this.forget(key)));
  }

  /**
   * Writes the final status of an export that has ended here. If the claim was lost meanwhile, the export runs again.
   * @returns false when there is no such export, or when it must run again
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
