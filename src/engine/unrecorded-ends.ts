/** Exports that have ended in this process, and that the store has refused to record. */

import type { RequestStore } from '../requests/contract.ts';
import type { DiskExportStatus } from '../requests/disk-export.ts';
import { hasLeftovers } from './abandon-leftovers.ts';
import { createAcceptedWriter } from './write-accepted.ts';

interface Ended {
  /** Of the request. */
  uid: string;
  status: DiskExportStatus;
}

export interface UnrecordedEndsOptions {
  store: Pick<RequestStore, 'writeStatus' | 'setCleanupPending'>;
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

  forget(key: string): void {
    this.ends.delete(key);
  }

  /**
   * Writes the status of an export that has ended here.
   * @returns false where the request has not ended here
   * @throws DiskliftError when the store still refuses
   */
  async record(key: string, uid: string): Promise<boolean> {
    const { store, warn } = this.options;
    const ended = this.ends.get(key);
    if (ended?.uid !== uid) {
      this.forget(key);
      return false;
    }
    await createAcceptedWriter(
      (status) => store.writeStatus(key, status),
      (message) => warn(message, key),
    ).write(ended.status);
    if (!hasLeftovers(ended)) await store.setCleanupPending(key, false);
    this.forget(key);
    return true;
  }
}
