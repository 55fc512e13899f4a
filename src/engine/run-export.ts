/** One export from request to receipts: all its disks, one after the other, within its deadline. */

import { DiskliftError } from '../common/errors.ts';
import type { DiskState } from './observer.ts';
import { type DiskPlan, type DiskRules, type EngineContext, runDisk } from './run-disk.ts';

export interface ExportPlan extends DiskRules {
  disks: readonly DiskPlan[];
  /** Counted from the call. No deadline when left out. */
  activeDeadlineSeconds?: number | undefined;
}

export interface ExportResult {
  phase: 'Succeeded' | 'Failed' | 'Cancelled';
  disks: readonly DiskState[];
  /** Why it did not succeed: of the first disk that did not. */
  failure?: DiskliftError;
}

/** A disk that fails does not keep the others from arriving; a deadline and a cancellation end them all. */
export async function runExport(plan: ExportPlan, context: EngineContext): Promise<ExportResult> {
  const disks = plan.disks.map(newState);
  const deadline = startDeadline(plan.activeDeadlineSeconds, context);
  try {
    const signal = AbortSignal.any([context.signal, deadline.signal]);
    for (const [index, disk] of plan.disks.entries()) await runDisk(disk, plan, disks[index] as DiskState, { ...context, signal });
  } finally {
    deadline.stop();
  }
  return resultOf(disks);
}

function newState({ path, qcow2 }: DiskPlan): DiskState {
  return { path, clusterSizeBytes: qcow2.clusterSizeBytes, phase: 'Pending', attempts: 0, scannedBytes: 0, sentBytes: 0 };
}

function resultOf(disks: readonly DiskState[]): ExportResult {
  const [first] = disks.filter(({ phase }) => phase !== 'Succeeded');
  if (first === undefined) return { phase: 'Succeeded', disks };
  const phase = disks.some((disk) => disk.phase === 'Failed') ? 'Failed' : 'Cancelled';
  const { failure = new DiskliftError('Cancelled', 'cancelled') } = disks.find((disk) => disk.phase === phase) ?? first;
  return { phase, disks, failure };
}

interface Deadline {
  signal: AbortSignal;
  stop(): void;
}

function startDeadline(seconds: number | undefined, { clock }: EngineContext): Deadline {
  const expired = new AbortController();
  const stopped = new AbortController();
  if (seconds !== undefined)
    clock.delay(seconds * 1000, stopped.signal).then(
      () => expired.abort(new DiskliftError('DeadlineExceeded', `not done within activeDeadlineSeconds, ${seconds} s`)),
      () => {},
    );
  return { signal: expired.signal, stop: () => stopped.abort(new DiskliftError('Cancelled', 'done')) };
}
