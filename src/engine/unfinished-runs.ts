/** Counts the runs of an export in a row that were lost with their process. The count lies in the status, so it survives the process. */

import type { DiskExportStatus } from '../resource/disk-export.ts';
import type { DiskState } from './observer.ts';
import { isFinal } from './phases.ts';

/** Fewer may be a coincidence: a node that restarts, or other exports that took the memory. */
const MIN_SUSPICIOUS_LOSSES = 3;

/**
 * A run is written down as unfinished before it begins to work, and crossed out when it ends in order, so that no process has to find out
 * how the one before ended. A run that waits (for the disk, for its next attempt, for a slot) cannot be why its process was lost.
 */
export class UnfinishedRuns {
  private losses: number;
  /** The most that one of the runs has sent. */
  private furthestBytes: number;
  private isWorking = false;

  constructor({ unfinishedRuns }: Pick<DiskExportStatus, 'unfinishedRuns'> = {}) {
    this.losses = unfinishedRuns?.count ?? 0;
    this.furthestBytes = unfinishedRuns?.sentBytes ?? 0;
  }

  /** Runs before this one that were lost in a row. */
  get lost(): number {
    return this.losses;
  }

  get isUnderSuspicion(): boolean {
    return this.losses >= MIN_SUSPICIOUS_LOSSES;
  }

  /** Runs under suspicion that were lost: they cost an attempt each. The runs before may have been lost by another export's fault. */
  get costs(): number {
    return Math.max(0, this.losses - MIN_SUSPICIOUS_LOSSES);
  }

  /** Whether a loss of the process now would be counted. */
  get isAtWork(): boolean {
    return this.isWorking;
  }

  begin(): void {
    this.isWorking = true;
  }

  /** A run that sends more than all before it has got further, whatever becomes of it. */
  observe(disks: readonly DiskState[]): void {
    const sentBytes = disks.reduce((sum, disk) => sum + disk.sentBytes, 0);
    if (sentBytes > this.furthestBytes) {
      this.furthestBytes = sentBytes;
      this.losses = 0;
    }
    this.isWorking = !isWaiting(disks);
  }

  status(): DiskExportStatus['unfinishedRuns'] {
    const count = this.losses + (this.isWorking ? 1 : 0);
    return count === 0 ? undefined : { count, sentBytes: this.furthestBytes };
  }
}

function isWaiting(disks: readonly DiskState[]): boolean {
  const disk = disks.find(({ phase }) => !isFinal(phase));
  return disk?.phase === 'Pending' && (disk.failure !== undefined || disk.isQueued === true);
}
