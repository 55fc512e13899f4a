/** Runs an export: all its disks, one after the other, within its deadline. */

import type { Clock } from '../common/clock.ts';
import { DiskliftError } from '../common/errors.ts';
import { startTimeLimit, type TimeLimit } from '../common/time-limit.ts';
import type { EngineContext, ExportPlan, ExportResult } from './contract.ts';
import { type DiskState, isFinal, newDiskState } from './observer.ts';
import { runDisk } from './run-disk.ts';

/** The failure of one disk does not stop the others. A deadline and a cancellation end all of them. */
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
  const { stopping, claim, slot, clock, observer } = context;
  return { signal, stopping, claim, slot, clock, observer, random: () => context.random(), warn: (message) => context.warn(message) };
}

function resultOf(disks: readonly DiskState[]): ExportResult {
  const [first] = disks.filter(({ phase }) => phase !== 'Succeeded');
  if (first === undefined) return { phase: 'Succeeded', disks };
  const phase = (['Pending', 'Failed'] as const).find((each) => disks.some((disk) => disk.phase === each)) ?? 'Cancelled';
  const { failure = new DiskliftError('Cancelled', 'cancelled') } = disks.find((disk) => disk.phase === phase) ?? first;
  return { phase, disks, failure };
}

/** @returns undefined when the export has no deadline */
export function startDeadline(
  { activeDeadlineSeconds: seconds, startMs }: Pick<ExportPlan, 'activeDeadlineSeconds' | 'startMs'>,
  clock: Clock,
): TimeLimit | undefined {
  if (seconds === undefined) return undefined;
  const expired = new DiskliftError('DeadlineExceeded', `not done within activeDeadlineSeconds, ${seconds} s`);
  return startTimeLimit({ clock, limitMs: (startMs ?? clock.nowMs()) + seconds * 1000 - clock.nowMs(), expired });
}
