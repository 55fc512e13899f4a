/** Runs a claimed request: plan, disks, final status. */

import { abortable, cancelledError, throwIfAborted } from '../common/abortable.ts';
import { timestamp } from '../common/clock.ts';
import { DiskliftError, isStoreFailure } from '../common/errors.ts';
import { retryStoreCall } from '../common/retry.ts';
import { startTimeLimit, type TimeLimit } from '../common/time-limit.ts';
import type { DiskExport, DiskExportStatus } from '../resource/disk-export.ts';
import type { RequestEvent } from '../stores/contract.ts';
import { hasLeftovers } from './clean-up-request.ts';
import type { EngineContext, ExportClaim, ExportPlan } from './contract.ts';
import { restoreDisks } from './disk-status.ts';
import { createExportEvents, type ExportEvents } from './export-events.ts';
import { exportStatusOf } from './export-status.ts';
import type { DiskState, ExportEnd, ExportObserver, ExportWatcher } from './observer.ts';
import { runExport, startDeadline } from './run-export.ts';
import { createStatusWriter } from './status-writer.ts';
import { Suspicion, type SuspicionOptions } from './suspicion.ts';
import { FAREWELL_MS, QUICK_FAREWELL_MS } from './time-limited-store.ts';

export interface RequestRun
  extends Pick<EngineContext, 'signal' | 'clock' | 'random' | 'warn' | 'slot'>,
    Pick<SuspicionOptions, 'suspects'> {
  /** With the status that an earlier process may have written. */
  request: DiskExport;
  executor?: DiskExportStatus['executor'] | undefined;
  /** Finds the disks on storage that may hang, and prepares their targets. @throws DiskliftError */
  plan(): Promise<ExportPlan>;
  watchers: readonly ExportWatcher[];
  /** Aborted when the claim is lost; then the final status is not written. */
  lost: AbortSignal;
  /** Aborted when the process must end; then the final status is written within {@link FAREWELL_MS}. */
  stopping: AbortSignal;
  /** @throws DiskliftError `ExecutorLost` */
  assertHeld(): Promise<void>;
  writeStatus(status: DiskExportStatus): Promise<void>;
  setCleanupPending(pending: boolean): Promise<void>;
  /** Whether the request is being deleted. Then an upload that the destination does not abort is left there. */
  isTerminating(): boolean;
  recordEvent(event: RequestEvent): Promise<void>;
}

export interface RequestEnd {
  /** Pending when another run must continue, in this process or in another. */
  phase: ExportEnd;
  failure?: DiskliftError | undefined;
  /** The final status. It was not written when another process owns the export. */
  status: DiskExportStatus;
  /** Why the store does not have the final status. */
  unrecorded?: DiskliftError | undefined;
}

type Ended = Pick<RequestEnd, 'phase' | 'failure'>;

/** Limit for writing the final status while the store fails. */
const FINAL_STATUS_MS = 300_000;

/** Limit of an outage of the API server, or of the directory's storage, that costs no attempt. */
const STORE_PATIENCE_MS = 300_000;

/**
 * Runs the request to its end, or until another run must continue: this executor was lost or stopped, or the store
 * failed (`StoreUnavailable`, `StoreRefused`).
 *
 * Cancel, deadline and stop end the work on disks within a second, even while calls hang: pending calls are abandoned.
 * The export releases its slot at that moment. The final status takes longer while the store fails.
 */
export async function runRequest(run: RequestRun): Promise<RequestEnd> {
  const { request, clock } = run;
  const startMs = Date.parse(request.status?.startTime ?? timestamp(clock.nowMs()));
  let disks: DiskState[] | undefined;
  let leftOut: readonly string[] = [];
  let end: Ended | undefined;
  let isWatched = true;
  let status = request.status;
  const events = createExportEvents(run);
  const suspicion = new Suspicion(run);
  const build = () => {
    const facts = { request, disks, leftOut, end, startMs, nowMs: clock.nowMs(), executor: run.executor, ...suspicion.facts() };
    status = exportStatusOf(facts, status);
    return status;
  };
  const writer = createStatusWriter({ ...run, build, write: run.writeStatus });
  const deadline = startDeadline({ activeDeadlineSeconds: request.spec.activeDeadlineSeconds, startMs }, clock);
  const signal = deadline === undefined ? run.signal : AbortSignal.any([run.signal, deadline.signal]);
  const calls = { ...run, events, signal };
  const claim = createExportClaim(calls, writer.flush, () => disks ?? []);

  function observe(): void {
    suspicion.observe(disks ?? [], () => writer.flush(signal));
    writer.touch();
  }

  async function runPlanned(): Promise<Ended> {
    try {
      await suspicion.begin(signal, (message) => {
        events.record('Warning', 'ExecutorCrashed', message);
        return writer.flush(signal, STORE_PATIENCE_MS);
      });
      await writer.flush(signal, STORE_PATIENCE_MS);
      // An upload of an earlier process that could not abort it.
      if (hasLeftovers(request)) await guardCleanup(calls);
      const plan = await abortable(run.plan(), signal);
      leftOut = plan.leftOut ?? [];
      events.leaveOut(leftOut);
      const { states, gone } = restoreDisks(plan, request.status);
      disks = [...states, ...gone];
      // The deadline starts here, because it covers the search for disks as well.
      const planned = {
        ...plan,
        activeDeadlineSeconds: undefined,
        disks: plan.disks.map((disk, index) => ({ ...disk, state: states[index] })),
      };
      events.record('Normal', 'Started', `sends ${states.map(({ path }) => path).join(', ')}`);
      return await runExport(planned, {
        ...calls,
        claim,
        observer: joinObservers([
          ...run.watchers.map(({ observer }) => observer),
          events.observer,
          { onChange: observe, onProgress: observe },
        ]),
      });
    } catch (error) {
      if (!(error instanceof DiskliftError)) throw error;
      // After an abort the reason is the signal's; the failure of an abandoned call only follows from it.
      return endedBy(signal.aborted ? abortedBeforeDisks(signal) : error);
    }
  }

  try {
    const ended = await runPlanned();
    // The remaining steps need no disk.
    run.slot?.release();
    const isPending = ended.phase === 'Pending';
    const last = isPending ? startLastCalls(run, FAREWELL_MS, QUICK_FAREWELL_MS) : startLastCalls(run, FINAL_STATUS_MS, FAREWELL_MS);
    try {
      end = await endIfHeld(ended, () => abortable(run.assertHeld(), last.signal));
      isWatched = false;
      for (const watcher of run.watchers) watcher.end(end.phase, end.failure);
      if (end.failure === LOST) return { ...end, status: status as DiskExportStatus };
      events.end(end.phase, end.failure);
      const unrecorded = await writeFinalStatus(run, () => writer.flush(last.signal));
      const isDone = unrecorded === undefined && !hasLeftovers({ status });
      // A run that ended before it had its disks has aborted no upload: the clean-up does that next.
      const hasTriedToAbort = disks !== undefined;
      if (!isPending && (isDone || (run.isTerminating() && hasTriedToAbort))) await abortable(run.setCleanupPending(false), last.signal);
      return { ...end, status: status as DiskExportStatus, ...(unrecorded === undefined || isPending ? {} : { unrecorded }) };
    } finally {
      last.stop();
    }
  } finally {
    deadline?.stop();
    suspicion.end();
    // A bug in this program also ends the run. The next run of the export starts its watchers anew.
    if (isWatched) for (const watcher of run.watchers) watcher.end('Pending');
    writer.stop();
  }
}

/** @returns why the store does not have the status, or undefined */
async function writeFinalStatus({ warn }: RequestRun, flush: () => Promise<void>): Promise<DiskliftError | undefined> {
  try {
    await flush();
    return undefined;
  } catch (error) {
    if (!(error instanceof DiskliftError)) throw error;
    warn(error.message);
    return error;
  }
}

function abortedBeforeDisks(signal: AbortSignal): DiskliftError {
  const reason = cancelledError(signal);
  if (reason.code !== 'DeadlineExceeded') return reason;
  return new DiskliftError(reason.code, `${reason.message}: the search for disks on the volume had not ended`, reason);
}

/** Another process owns the status now. */
const LOST = new DiskliftError('ExecutorLost', 'another process owns the export now');

async function endIfHeld(end: Ended, assertHeld: () => Promise<void>): Promise<Ended> {
  try {
    await assertHeld();
    return end;
  } catch (error) {
    if (!(error instanceof DiskliftError)) throw error;
    return { phase: 'Pending', failure: LOST };
  }
}

/** After a failure of the store or of the claim the export runs again. */
function endedBy(failure: DiskliftError): Ended {
  if (failure.code === 'ExecutorLost' || isStoreFailure(failure)) return { phase: 'Pending', failure };
  return { phase: failure.code === 'Cancelled' ? 'Cancelled' : 'Failed', failure };
}

/**
 * Limits for the calls after the work. A cancelled export makes them as well, because users wait for its final status.
 * @param farewellMs limit that starts when the process must end
 */
function startLastCalls({ clock, lost, stopping }: RequestRun, limitMs: number, farewellMs: number): TimeLimit {
  const expired = new DiskliftError('ExecutorLost', 'the final status could not be written');
  const limit = startTimeLimit({ clock, limitMs, expired });
  const farewell = startTimeLimit({ clock, limitMs: farewellMs, expired, after: stopping });
  return {
    signal: AbortSignal.any([limit.signal, farewell.signal, lost]),
    stop() {
      limit.stop();
      farewell.stop();
    },
  };
}

type GuardedRun = RequestRun & { events: ExportEvents };

/**
 * Marks the clean-up as pending, so that the request stays until its upload is aborted. Waits while the store does not
 * answer.
 * @throws DiskliftError `StoreRefused`; `StoreUnavailable` after {@link STORE_PATIENCE_MS}
 */
async function guardCleanup({ events, ...run }: GuardedRun): Promise<void> {
  let isRecorded = false;
  await retryStoreCall(() => run.setCleanupPending(true), {
    ...run,
    limitMs: STORE_PATIENCE_MS,
    isRetryable: (error) => error instanceof DiskliftError && error.code === 'StoreUnavailable',
    onRetry(error) {
      const { code, message } = error as DiskliftError;
      run.warn(`waits for the store of requests: ${message}`);
      if (!isRecorded) events.record('Warning', code, `waits for the store of requests: ${message}`);
      isRecorded = true;
    },
  });
}

function createExportClaim(
  run: GuardedRun,
  flush: (signal: AbortSignal, patienceMs?: number) => Promise<void>,
  disks: () => readonly DiskState[],
): ExportClaim {
  let isPending = hasLeftovers(run.request);
  return {
    assertHeld: () => run.assertHeld(),
    async saveStates() {
      const isOpen = disks().some(({ upload }) => upload !== undefined);
      // The clean-up is marked first, so that an open upload always has a process that aborts it.
      if (isOpen && !isPending) await guardCleanup(run);
      if (isOpen) isPending = true;
      throwIfAborted(run.signal);
      await flush(run.signal, STORE_PATIENCE_MS);
      if (isOpen || !isPending) return;
      try {
        await abortable(run.setCleanupPending(false), run.signal);
        isPending = false;
      } catch (error) {
        if (!isStoreFailure(error)) throw error;
        // No upload is open any more. The removal is tried again when the next upload is saved, and at the end.
        run.warn(`the finished clean-up cannot be recorded yet: ${error.message}`);
      }
    },
  };
}

function joinObservers(observers: readonly ExportObserver[]): ExportObserver {
  return {
    onChange: (disk) => {
      for (const observer of observers) observer.onChange?.(disk);
    },
    onProgress: (disk) => {
      for (const observer of observers) observer.onProgress?.(disk);
    },
    onRetry: (disk, failure, delayMs) => {
      for (const observer of observers) observer.onRetry?.(disk, failure, delayMs);
    },
    onImageType: (disk, type) => {
      for (const observer of observers) observer.onImageType?.(disk, type);
    },
    onReceiptRefused: (disk, refusal) => {
      for (const observer of observers) observer.onReceiptRefused?.(disk, refusal);
    },
    onWait: (disk, inUse) => {
      for (const observer of observers) observer.onWait?.(disk, inUse);
    },
  };
}
