/** An export in whose runs processes were lost again and again lets the others go first. */

import { DiskliftError } from '../common/errors.ts';
import { type Backoff, backoffDelayMs } from '../common/retry.ts';
import type { DiskExport } from '../resource/disk-export.ts';
import type { EngineContext } from './context.ts';
import type { ExportSlots, Slot } from './export-slots.ts';
import type { ExportFacts } from './export-status.ts';
import type { DiskState } from './observer.ts';
import { UnfinishedRuns } from './unfinished-runs.ts';

export interface SuspicionOptions extends Pick<EngineContext, 'slot' | 'clock' | 'random'> {
  /** With the status of the run before. */
  request: DiskExport;
  /** Slots for all exports under suspicion. One runs at a time, because an export that kills the process would take the others with it. */
  suspects?: ExportSlots | undefined;
}

/** As the kubelet's for containers that end again and again. */
const BACKOFF: Backoff = { baseMs: 10_000, capMs: 300_000 };

/** Time in which the other exports of a process that has just begun take their slots. */
const MIN_DELAY_MS = 5000;

export class Suspicion {
  private readonly options: SuspicionOptions;
  private readonly runs: UnfinishedRuns;
  private place: Slot | undefined;
  private waits: ExportFacts['suspicion'];

  constructor(options: SuspicionOptions) {
    this.options = options;
    this.runs = new UnfinishedRuns(options.request.status);
  }

  /**
   * To be awaited before anything is done for the export. Where the last processes were lost in its runs, it gives its slot back and waits.
   * @param onWait receives the wait's message when the status has it
   * @throws DiskliftError `ExecutorCrashed` when the attempts are used up; what `signal` was aborted with
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
    const what = `the process was lost ${lost} times in a row while it ran this export`;
    if (costs > request.spec.backoffLimit)
      throw new DiskliftError(
        'ExecutorCrashed',
        `${what}; find out why its container ended (kubectl describe pod), such as its memory limit, and export the disk anew`,
      );
    const delayMs = backoffDelayMs(BACKOFF, { failedAttempts: costs + 1, retryAfterMs: MIN_DELAY_MS }, random);
    slot?.pause();
    const message = `waits ${Math.ceil(delayMs / 1000)} s, and then runs without another such export: ${what}`;
    this.waits = { message, nextAttemptMs: clock.nowMs() + delayMs };
    await onWait(message);
    await clock.delay(delayMs, signal);
    this.place = suspects?.reserve('');
    await this.place?.acquire(signal);
    await slot?.acquire(signal);
  }

  /** For every change of the export's disks. */
  observe(disks: readonly DiskState[]): void {
    this.runs.observe(disks);
    if (!this.runs.isUnderSuspicion || !this.runs.isAtWork) this.end();
  }

  /** Its part of the status. */
  facts(): Pick<ExportFacts, 'unfinishedRuns' | 'suspicion'> {
    return { unfinishedRuns: this.runs.status(), suspicion: this.waits };
  }

  /** Lets the next export under suspicion run. */
  end(): void {
    this.place?.release();
  }
}
