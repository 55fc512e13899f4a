/** One claimed request, from its plan to its final status. */

import { throwIfAborted } from '../common/abortable.ts';
import { DiskliftError } from '../common/errors.ts';
import { startTimeLimit, startTimeLimitAfter } from '../common/time-limit.ts';
import type { RequestEvent } from '../requests/contract.ts';
import type { DiskExport, DiskExportStatus } from '../requests/disk-export.ts';
import { timestamp } from '../requests/timestamp.ts';
import { hasLeftovers } from './abandon-leftovers.ts';
import type { EngineContext } from './context.ts';
import { restoreDiskState } from './disk-status.ts';
import { exportStatusOf } from './export-status.ts';
import type { DiskState, ExportEnd, ExportObserver, ExportWatcher } from './observer.ts';
import { type ExportPlan, newDiskState, runExport } from './run-export.ts';
import { createStatusWriter } from './status-writer.ts';

export interface RequestRun extends Pick<EngineContext, 'signal' | 'clock' | 'random' | 'warn' | 'place'> {
  /** With the status that somebody else may have left. */
  request: DiskExport;
  executor?: DiskExportStatus['executor'] | undefined;
  /** Finds the disks and what is needed to send them. @throws DiskliftError when that cannot be */
  plan(): Promise<ExportPlan>;
  watchers: readonly ExportWatcher[];
  /** Aborted when the claim is lost, and when the process is to end: then the last word has little time, or none. */
  lost: AbortSignal;
  stopping: AbortSignal;
  /** @throws DiskliftError `ExecutorLost` */
  confirm(): Promise<void>;
  writeStatus(status: DiskExportStatus): Promise<void>;
  setCleanupPending(pending: boolean): Promise<void>;
  /** Whether it is being deleted: then what a destination does not drop is left there. */
  isGoing(): boolean;
  note(event: RequestEvent): Promise<void>;
}

interface Ended {
  phase: ExportEnd;
  failure?: DiskliftError | undefined;
}

/** A status that says how it ended is worth waiting for, but not for ever. */
const LAST_WORD_MS = 300_000;

/** A process that is told to end has ten seconds. */
const FAREWELL_MS = 4000;

/** @returns the last status; with phase Pending when this executor was lost and another will go on */
export async function runRequest(run: RequestRun): Promise<DiskExportStatus> {
  const { request, clock, signal } = run;
  const startMs = Date.parse(request.status?.startTime ?? timestamp(clock.nowMs()));
  let disks: DiskState[] | undefined;
  let leftOut: readonly string[] = [];
  let end: Ended | undefined;
  let status = request.status;
  const writer = createStatusWriter({
    ...run,
    build() {
      status = exportStatusOf(
        { request, disks, leftOut, end, startMs, nowMs: clock.nowMs(), ...(run.executor === undefined ? {} : { executor: run.executor }) },
        status,
      );
      return status;
    },
    write: run.writeStatus,
  });
  const keeper = createKeeper(run, writer.flush, () => disks ?? []);

  async function runPlanned(): Promise<Ended> {
    try {
      await writer.flush(signal);
      // Somebody else's, who could not stay to drop it.
      if (hasLeftovers(request)) await run.setCleanupPending(true);
      const plan = await run.plan();
      leftOut = plan.leftOut ?? [];
      for (const each of leftOut) tellLeftOut(run, each);
      const states = plan.disks.map((disk) => restoreDiskState(newDiskState(disk), request.status));
      disks = states;
      const planned = { ...plan, startMs, disks: plan.disks.map((disk, index) => ({ ...disk, state: states[index] })) };
      note(run, 'Normal', 'Started', `sends ${states.map(({ path }) => path).join(', ')}`);
      return await runExport(planned, {
        ...run,
        keeper,
        observer: joinObservers([
          ...run.watchers.map(({ observer }) => observer),
          noting(run),
          { onChange: writer.touch, onProgress: writer.touch },
        ]),
      });
    } catch (error) {
      if (!(error instanceof DiskliftError)) throw error;
      return { phase: endOf(error), failure: error };
    }
  }

  try {
    end = await confirmed(await runPlanned(), run);
    for (const watcher of run.watchers) watcher.end(end.phase, end.failure);
    if (end.failure === LOST) return status as DiskExportStatus;
    noteEnd(run, end);
    await lastWord(run, writer.flush, end.phase === 'Pending' ? FAREWELL_MS : LAST_WORD_MS);
    if (end.phase !== 'Pending' && (run.isGoing() || !hasLeftovers({ status }))) await run.setCleanupPending(false);
    return status as DiskExportStatus;
  } finally {
    writer.stop();
  }
}

/** Whoever lost the export says no more about it: somebody else does. */
const LOST = new DiskliftError('ExecutorLost', "the export is somebody else's by now");

async function confirmed(end: Ended, { confirm }: RequestRun): Promise<Ended> {
  try {
    await confirm();
    return end;
  } catch (error) {
    if (!(error instanceof DiskliftError)) throw error;
    return { phase: 'Pending', failure: LOST };
  }
}

function endOf({ code }: DiskliftError): ExportEnd {
  if (code === 'ExecutorLost') return 'Pending';
  return code === 'Cancelled' ? 'Cancelled' : 'Failed';
}

/** Also when the export itself was cancelled: people wait for this one. */
async function lastWord(run: RequestRun, flush: (signal: AbortSignal) => Promise<void>, limitMs: number): Promise<void> {
  const { clock, warn, lost, stopping } = run;
  const expired = new DiskliftError('ExecutorLost', 'the last status could not be written');
  const limit = startTimeLimit(clock, limitMs, expired);
  const farewell = startTimeLimitAfter(stopping, { clock, limitMs: FAREWELL_MS, expired });
  try {
    await flush(AbortSignal.any([limit.signal, farewell.signal, lost]));
  } catch (error) {
    if (!(error instanceof DiskliftError)) throw error;
    warn(error.message);
  } finally {
    limit.stop();
    farewell.stop();
  }
}

function createKeeper(
  run: RequestRun,
  flush: (signal: AbortSignal) => Promise<void>,
  disks: () => readonly DiskState[],
): EngineContext['keeper'] {
  let isPending = hasLeftovers(run.request);
  return {
    confirm: run.confirm,
    async save() {
      const isOpen = disks().some(({ upload }) => upload !== undefined);
      // In this order, so that at no moment something is open that nobody would clean up.
      if (isOpen && !isPending) await run.setCleanupPending(true);
      throwIfAborted(run.signal);
      await flush(run.signal);
      if (!isOpen && isPending) await run.setCleanupPending(false);
      isPending = isOpen;
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
      note(
        run,
        'Warning',
        'Retrying',
        `${path}: attempt ${attempts} failed, the next in ${Math.ceil(delayMs / 1000)} s: ${failure.message}`,
      ),
    onWait: ({ path }, { message }) => note(run, 'Warning', 'Waiting', `${path}: waits until nobody writes to it: ${message}`),
  };
}

function tellLeftOut(run: RequestRun, which: string): void {
  const message = `left out: ${which}`;
  run.warn(message);
  note(run, 'Warning', 'DiskLeftOut', message);
}

function noteEnd(run: RequestRun, { phase, failure }: Ended): void {
  if (phase === 'Succeeded') note(run, 'Normal', 'Succeeded', 'every disk has arrived');
  else if (phase === 'Cancelled') note(run, 'Normal', 'Cancelled', failure?.message ?? 'cancelled');
  else if (phase === 'Failed') note(run, 'Warning', 'Failed', `${failure?.code}: ${failure?.message}`);
}

function note({ note: tell }: RequestRun, type: RequestEvent['type'], reason: string, message: string): void {
  void tell({ type, reason, message });
}
