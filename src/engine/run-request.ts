/** One claimed request, from its plan to its final status. */

import { abortable, cancelledError, throwIfAborted } from '../common/abortable.ts';
import { DiskliftError, isStoreFailure } from '../common/errors.ts';
import { startTimeLimit, type TimeLimit } from '../common/time-limit.ts';
import type { DiskExport, DiskExportStatus } from '../resource/disk-export.ts';
import { timestamp } from '../resource/timestamp.ts';
import type { RequestEvent } from '../stores/contract.ts';
import { hasLeftovers } from './abandon-leftovers.ts';
import { FAREWELL_MS, QUICK_FAREWELL_MS } from './bounded-store.ts';
import type { EngineContext } from './context.ts';
import { restoreDisks } from './disk-status.ts';
import { exportStatusOf } from './export-status.ts';
import type { DiskState, ExportEnd, ExportObserver, ExportWatcher } from './observer.ts';
import { patiently } from './patiently.ts';
import { type ExportPlan, runExport, startDeadline } from './run-export.ts';
import { createStatusWriter } from './status-writer.ts';
import { Suspicion, type SuspicionOptions } from './suspicion.ts';

export interface RequestRun
  extends Pick<EngineContext, 'signal' | 'clock' | 'random' | 'warn' | 'slot'>,
    Pick<SuspicionOptions, 'suspects'> {
  /** With the status that somebody else may have left. */
  request: DiskExport;
  executor?: DiskExportStatus['executor'] | undefined;
  /** Finds the disks, on storage that may hang, and prepares what sending requires. @throws DiskliftError when either fails */
  plan(): Promise<ExportPlan>;
  watchers: readonly ExportWatcher[];
  /** Aborted when the claim is lost, and when the process is to end: then the last word has little time, or none. */
  lost: AbortSignal;
  stopping: AbortSignal;
  /** @throws DiskliftError `ExecutorLost` */
  assertHeld(): Promise<void>;
  writeStatus(status: DiskExportStatus): Promise<void>;
  setCleanupPending(pending: boolean): Promise<void>;
  /** Whether it is being deleted: then what a destination does not drop is left there. */
  isTerminating(): boolean;
  recordEvent(event: RequestEvent): Promise<void>;
}

export interface RequestEnd {
  /** Pending when another run must continue, in this process or in another. */
  phase: ExportEnd;
  failure?: DiskliftError | undefined;
  /** The final status. It was not written when another process owns the export. */
  status: DiskExportStatus;
  /** Why an export that has ended here is not so in the store. */
  unrecorded?: DiskliftError | undefined;
}

type Ended = Pick<RequestEnd, 'phase' | 'failure'>;

/** A status that says how it ended is worth waiting for, but not for ever. */
const LAST_WORD_MS = 300_000;

/** Limit of an outage of the API server, or of the directory's storage, that costs no attempt. */
const STORE_PATIENCE_MS = 300_000;

/**
 * Runs the request to its end, or until another run must continue: this executor was lost or stopped, or the store failed
 * (`StoreUnavailable`, `StoreRefused`).
 *
 * Cancel, deadline and stop end the work on disks within a second, even while calls hang: pending calls are abandoned. The export
 * releases its slot at that moment. The final status takes longer while the store fails.
 */
export async function runRequest(run: RequestRun): Promise<RequestEnd> {
  const { request, clock } = run;
  const startMs = Date.parse(request.status?.startTime ?? timestamp(clock.nowMs()));
  let disks: DiskState[] | undefined;
  let leftOut: readonly string[] = [];
  let end: Ended | undefined;
  let isWatched = true;
  let status = request.status;
  const suspicion = new Suspicion(run);
  const writer = createStatusWriter({
    ...run,
    build() {
      status = exportStatusOf(
        { request, disks, leftOut, end, startMs, nowMs: clock.nowMs(), executor: run.executor, ...suspicion.facts() },
        status,
      );
      return status;
    },
    write: run.writeStatus,
  });
  const deadline = startDeadline({ activeDeadlineSeconds: request.spec.activeDeadlineSeconds, startMs }, clock);
  const signal = deadline === undefined ? run.signal : AbortSignal.any([run.signal, deadline.signal]);
  const calls = { ...run, signal };
  const keeper = createKeeper(calls, writer.flush, () => disks ?? []);

  function observe(): void {
    suspicion.observe(disks ?? []);
    writer.touch();
  }

  async function runPlanned(): Promise<Ended> {
    try {
      await suspicion.begin(signal, (message) => {
        recordEvent(run, 'Warning', 'ExecutorCrashed', message);
        return writer.flush(signal, STORE_PATIENCE_MS);
      });
      await writer.flush(signal, STORE_PATIENCE_MS);
      // Somebody else's, who could not stay to drop it.
      if (hasLeftovers(request)) await guardCleanup(calls);
      const plan = await abortable(run.plan(), signal);
      leftOut = plan.leftOut ?? [];
      for (const each of leftOut) tellLeftOut(run, each);
      const { states, gone } = restoreDisks(plan, request.status);
      disks = [...states, ...gone];
      // The deadline starts here, because it covers the search for disks as well.
      const planned = {
        ...plan,
        activeDeadlineSeconds: undefined,
        disks: plan.disks.map((disk, index) => ({ ...disk, state: states[index] })),
      };
      recordEvent(run, 'Normal', 'Started', `sends ${states.map(({ path }) => path).join(', ')}`);
      return await runExport(planned, {
        ...calls,
        keeper,
        observer: joinObservers([...run.watchers.map(({ observer }) => observer), noting(run), { onChange: observe, onProgress: observe }]),
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
    const last = isPending ? startLastCalls(run, FAREWELL_MS, QUICK_FAREWELL_MS) : startLastCalls(run, LAST_WORD_MS, FAREWELL_MS);
    try {
      end = await confirmed(ended, () => abortable(run.assertHeld(), last.signal));
      isWatched = false;
      for (const watcher of run.watchers) watcher.end(end.phase, end.failure);
      if (end.failure === LOST) return { ...end, status: status as DiskExportStatus };
      noteEnd(run, end);
      const unrecorded = await writer.flush(last.signal).catch((error: unknown) => {
        if (!(error instanceof DiskliftError)) throw error;
        run.warn(error.message);
        return error;
      });
      const isDone = unrecorded === undefined && !hasLeftovers({ status });
      // A run that ended before it had its disks has tried to drop nothing: the clean-up does that next.
      const isTried = disks !== undefined;
      if (!isPending && (isDone || (run.isTerminating() && isTried))) await abortable(run.setCleanupPending(false), last.signal);
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

function abortedBeforeDisks(signal: AbortSignal): DiskliftError {
  const reason = cancelledError(signal);
  if (reason.code !== 'DeadlineExceeded') return reason;
  return new DiskliftError(reason.code, `${reason.message}: the disks on the volume were still being looked for`, reason);
}

/** Whoever lost the export says no more about it: somebody else does. */
const LOST = new DiskliftError('ExecutorLost', "the export is somebody else's by now");

async function confirmed(end: Ended, assertHeld: () => Promise<void>): Promise<Ended> {
  try {
    await assertHeld();
    return end;
  } catch (error) {
    if (!(error instanceof DiskliftError)) throw error;
    return { phase: 'Pending', failure: LOST };
  }
}

/** Failures of the store or of the claim are no failures of the export, which runs again. */
function endedBy(failure: DiskliftError): Ended {
  if (failure.code === 'ExecutorLost' || isStoreFailure(failure)) return { phase: 'Pending', failure };
  return { phase: failure.code === 'Cancelled' ? 'Cancelled' : 'Failed', failure };
}

/**
 * Limits for the calls after the work. A cancelled export makes them as well, because users wait for its final status.
 * @param farewellMs limit from the moment on when the process must end
 */
function startLastCalls({ clock, lost, stopping }: RequestRun, limitMs: number, farewellMs: number): TimeLimit {
  const expired = new DiskliftError('ExecutorLost', 'the last status could not be written');
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

/**
 * Marks the clean-up as pending, so that the request stays until its upload is aborted. Waits while the store does not answer.
 * @throws DiskliftError `StoreRefused`; `StoreUnavailable` after five minutes
 */
async function guardCleanup(run: RequestRun): Promise<void> {
  let isTold = false;
  await patiently(() => run.setCleanupPending(true), {
    ...run,
    patienceMs: STORE_PATIENCE_MS,
    isToBeRetried: (error) => error instanceof DiskliftError && error.code === 'StoreUnavailable',
    onFailure(error) {
      const { code, message } = error as DiskliftError;
      run.warn(`waits for the store of requests: ${message}`);
      if (!isTold) recordEvent(run, 'Warning', code, `waits for the store of requests: ${message}`);
      isTold = true;
    },
  });
}

function createKeeper(
  run: RequestRun,
  flush: (signal: AbortSignal, patienceMs?: number) => Promise<void>,
  disks: () => readonly DiskState[],
): EngineContext['keeper'] {
  let isPending = hasLeftovers(run.request);
  return {
    assertHeld: () => run.assertHeld(),
    async save() {
      const isOpen = disks().some(({ upload }) => upload !== undefined);
      // In this order, so that at no moment something is open that nobody would clean up.
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
        run.warn(`the request would wait for a clean-up that is done: ${error.message}`);
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
    onWait: (disk, inUse) => {
      for (const observer of observers) observer.onWait?.(disk, inUse);
    },
  };
}

function noting(run: RequestRun): ExportObserver {
  return {
    onRetry: ({ path, attempts }, failure, delayMs) =>
      recordEvent(
        run,
        'Warning',
        'Retrying',
        `${path}: attempt ${attempts} failed, the next in ${Math.ceil(delayMs / 1000)} s: ${failure.message}`,
      ),
    onWait: ({ path }, { message }) => recordEvent(run, 'Warning', 'Waiting', `${path}: waits until nobody writes to it: ${message}`),
  };
}

function tellLeftOut(run: RequestRun, which: string): void {
  const message = `left out: ${which}`;
  run.warn(message);
  recordEvent(run, 'Warning', 'DiskLeftOut', message);
}

function noteEnd(run: RequestRun, { phase, failure }: Ended): void {
  if (phase === 'Succeeded') recordEvent(run, 'Normal', 'Succeeded', 'every disk has arrived');
  else if (phase === 'Cancelled') recordEvent(run, 'Normal', 'Cancelled', failure?.message ?? 'cancelled');
  else if (phase === 'Failed') recordEvent(run, 'Warning', 'Failed', `${failure?.code}: ${failure?.message}`);
}

function recordEvent(run: RequestRun, type: RequestEvent['type'], reason: string, message: string): void {
  // `recordEvent` never fails by contract; an export must not depend on that.
  run.recordEvent({ type, reason, message }).catch(() => {});
}
