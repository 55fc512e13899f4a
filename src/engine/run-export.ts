/** One export from request to receipts: all its disks, one after the other, within its deadline. */

import type { Clock } from '../common/clock.ts';
import { DiskliftError } from '../common/errors.ts';
import { startTimeLimit, type TimeLimit } from '../common/time-limit.ts';
import type { EngineContext } from './context.ts';
import type { DiskState, ExportEnd } from './observer.ts';
import { isFinal } from './phases.ts';
import { type DiskPlan, type DiskRules, runDisk } from './run-disk.ts';

export interface ExportPlan extends DiskRules {
  disks: readonly DiskPlan[];
  /** One sentence for each file on the volume that may be a disk and is not sent; none when left out. */
  leftOut?: readonly string[] | undefined;
  /** Counted from `startMs`. No deadline when left out. */
  activeDeadlineSeconds?: number | undefined;
  /** When the export was begun, maybe by another process: milliseconds since the epoch. Now when left out. */
  startMs?: number | undefined;
}

export interface ExportResult {
  /** Pending: this executor was lost, and the export has not ended. */
  phase: ExportEnd;
  disks: readonly DiskState[];
  /** Why it did not succeed: of the first disk that did not. */
  failure?: DiskliftError;
}

/** A disk that fails does not keep the others from arriving; a deadline and a cancellation end them all. */
export async function runExport(plan: ExportPlan, context: EngineContext): Promise<ExportResult> {
  const disks = plan.disks.map((disk) => disk.state ?? newDiskState(disk));
  const deadline = startDeadline(plan, context.clock);
  try {
    const signal = deadline === undefined ? context.signal : AbortSignal.any([context.signal, deadline.signal]);
    for (const [index, disk] of plan.disks.entries()) {
      const state = disks[index] as DiskState;
      if (!isFinal(state.phase)) await runDisk(disk, plan, state, withSignal(context, signal));
    }
  } finally {
    deadline?.stop();
  }
  return resultOf(disks);
}

/** The context may be a class instance: its methods are called, never copied. */
function withSignal(context: EngineContext, signal: AbortSignal): EngineContext {
  const { stopping, keeper, slot, clock, observer } = context;
  return { signal, stopping, keeper, slot, clock, observer, random: () => context.random(), warn: (message) => context.warn(message) };
}

/** A disk of which nothing has been done. */
export function newDiskState({ path, qcow2 }: Pick<DiskPlan, 'path' | 'qcow2'>): DiskState {
  return { path, clusterSizeBytes: qcow2.clusterSizeBytes, phase: 'Pending', attempts: 0, scannedBytes: 0, readBytes: 0, sentBytes: 0 };
}

function resultOf(disks: readonly DiskState[]): ExportResult {
  const [first] = disks.filter(({ phase }) => phase !== 'Succeeded');
  if (first === undefined) return { phase: 'Succeeded', disks };
  const phase = disks.some((disk) => disk.phase === 'Pending')
    ? 'Pending'
    : disks.some((disk) => disk.phase === 'Failed')
      ? 'Failed'
      : 'Cancelled';
  const { failure = new DiskliftError('Cancelled', 'cancelled') } = disks.find((disk) => disk.phase === phase) ?? first;
  return { phase, disks, failure };
}

/** @returns undefined where the export has no deadline */
export function startDeadline(
  { activeDeadlineSeconds: seconds, startMs }: Pick<ExportPlan, 'activeDeadlineSeconds' | 'startMs'>,
  clock: Clock,
): TimeLimit | undefined {
  if (seconds === undefined) return undefined;
  const expired = new DiskliftError('DeadlineExceeded', `not done within activeDeadlineSeconds, ${seconds} s`);
  return startTimeLimit({ clock, limitMs: (startMs ?? clock.nowMs()) + seconds * 1000 - clock.nowMs(), expired });
}
