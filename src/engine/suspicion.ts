/** Delays an export during whose runs the process was lost several times in a row, so that other exports run first. */

import { DiskliftError } from '../common/errors.ts';
import { type Backoff, backoffDelayMs } from '../common/retry.ts';
import type { DiskExport, DiskExportStatus } from '../resource/disk-export.ts';
import type { EngineContext } from './contract.ts';
import type { ExportSlots, Slot } from './export-slots.ts';
import type { ExportFacts } from './export-status.ts';
import { type DiskState, isFinal } from './observer.ts';

export interface SuspicionOptions extends Pick<EngineContext, 'slot' | 'clock' | 'random'> {
  /** With the status of the previous run. */
  request: DiskExport;
  /**
   * Slots for all exports under suspicion. One of them runs at a time, because an export that kills the process would
   * stop the others.
   */
  suspects?: ExportSlots | undefined;
}

/** The same as the kubelet's CrashLoopBackOff. */
const BACKOFF: Backoff = { baseMs: 10_000, capMs: 300_000 };

/** In this time after its start a process grants slots to the other exports. */
const MIN_DELAY_MS = 5000;

/** Fewer losses may be a coincidence: a node that restarts, or other exports that used up the memory. */
const MIN_SUSPICIOUS_LOSSES = 3;

export class Suspicion {
  private readonly options: SuspicionOptions;
  private readonly runs: UnfinishedRuns;
  private suspectSlot: Slot | undefined;
  private isCleared = false;
  private waits: ExportFacts['suspicion'];

  constructor(options: SuspicionOptions) {
    this.options = options;
    this.runs = new UnfinishedRuns(options.request.status);
  }

  /**
   * Awaited before the run begins to work. Under suspicion the export gives its slot back and waits.
   * @param onWait receives the message of the wait when the status has it
   * @throws DiskliftError `ExecutorCrashed` when all attempts are used up; the reason of `signal`
   */
  async begin(signal: AbortSignal, onWait: (message: string) => Promise<void>): Promise<void> {
    const { runs } = this;
    if (runs.isUnderSuspicion) await this.wait(signal, onWait);
    this.waits = undefined;
    runs.begin();
  }

  private async wait(signal: AbortSignal, onWait: (message: string) => Promise<void>): Promise<void> {
    const { request, slot, clock, random, suspects } = this.options;
    const { lost, costs } = this.runs;
    const losses = `the process was lost ${lost} times in a row while it ran this export`;
    if (costs > request.spec.backoffLimit)
      throw new DiskliftError(
        'ExecutorCrashed',
        `${losses}; find out why its container ended (kubectl describe pod), such as its memory limit, then create a new export`,
      );
    const delayMs = backoffDelayMs(BACKOFF, { failedAttempts: costs + 1, retryAfterMs: MIN_DELAY_MS }, random);
    slot?.pause();
    const message = `waits ${Math.ceil(delayMs / 1000)} s, then runs while no other such export does: ${losses}`;
    this.waits = { message, nextAttemptMs: clock.nowMs() + delayMs };
    await onWait(message);
    await clock.delay(delayMs, signal);
    this.suspectSlot = suspects?.reserve('');
    await this.suspectSlot?.acquire(signal);
    await slot?.acquire(signal);
  }

  /**
   * Called for each change of the export's disks. The next export under suspicion may kill the process at once. The
   * store must not count that loss to this export, so the next one waits until the store has the facts.
   * @param record writes the status
   */
  observe(disks: readonly DiskState[], record: () => Promise<void>): void {
    this.runs.observe(disks);
    if (this.isCleared || this.suspectSlot === undefined || (this.runs.isUnderSuspicion && this.runs.isAtWork)) return;
    this.isCleared = true;
    record().then(
      () => this.end(),
      () => {},
    );
  }

  /** Facts for the status. */
  facts(): Pick<ExportFacts, 'unfinishedRuns' | 'suspicion'> {
    return { unfinishedRuns: this.runs.status(), suspicion: this.waits };
  }

  /** Lets the next export under suspicion run. */
  end(): void {
    this.suspectSlot?.release();
  }
}

/**
 * Counts the runs of an export in a row that were lost with their process. The count is in the status, so it survives
 * the process.
 *
 * The status names a run as unfinished before the run begins to work, until it ends in order. No process needs to
 * find out how the previous one ended. A run that waits (for the disk, for its next attempt, for a slot) cannot be the
 * cause of a loss.
 */
export class UnfinishedRuns {
  private losses: number;
  /** The largest number of bytes that one of the runs has sent. */
  private furthestBytes: number;
  private isWorking = false;

  constructor({ unfinishedRuns }: Pick<DiskExportStatus, 'unfinishedRuns'> = {}) {
    this.losses = unfinishedRuns?.count ?? 0;
    this.furthestBytes = unfinishedRuns?.sentBytes ?? 0;
  }

  /** Lost runs in a row before this one. */
  get lost(): number {
    return this.losses;
  }

  get isUnderSuspicion(): boolean {
    return this.losses >= MIN_SUSPICIOUS_LOSSES;
  }

  /**
   * Lost runs that use up an attempt each: those under suspicion. Another export may have caused the earlier losses.
   */
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

  /** A run that sends more than all earlier runs makes progress, so earlier losses are forgotten. */
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
