/** The conditions of a schedule, and the time at which it becomes overdue. Pure. */

import { timestamp } from '../../common/clock.ts';
import { printable, truncated } from '../../common/text.ts';
import type { Condition } from '../../resource/disk-export.ts';
import { type NewCondition, setCondition } from '../../resource/status.ts';
import type { ScheduleTimes } from './schedule-times.ts';

const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;

/** Bounds of the time that a run has to succeed. */
const MIN_RUN_MS = 10 * MINUTE_MS;
const MAX_RUN_MS = DAY_MS;

const MAX_MESSAGE_CHARACTERS = 2048;

/**
 * The first run after the last success has half the time to the run after it.
 * @param sinceMs the last success, or the creation of the schedule
 */
export function overdueTimeMs(times: ScheduleTimes, sinceMs: number): number | undefined {
  const dueMs = times.nextMs(sinceMs);
  if (dueMs === undefined) return undefined;
  const followingMs = times.nextMs(dueMs) ?? Number.POSITIVE_INFINITY;
  return dueMs + Math.min(MAX_RUN_MS, Math.max(MIN_RUN_MS, (followingMs - dueMs) / 2));
}

export interface ConditionFacts {
  /** Why the schedule cannot be read, or its export cannot be created; undefined when it is ready. */
  problem: Pick<Condition, 'reason' | 'message'> | undefined;
  isSuspended: boolean;
  lastSuccessMs: number | undefined;
  /** Undefined when the schedule cannot be read. */
  overdueMs: number | undefined;
  generation: number | undefined;
  nowMs: number;
}

export function scheduleConditions(known: readonly Condition[], facts: ConditionFacts): Condition[] {
  const { generation: observedGeneration, nowMs } = facts;
  return [readyCondition(facts), upToDateCondition(facts)].reduce<readonly Condition[]>(
    (conditions, condition) => setCondition(conditions, condition, { observedGeneration, nowMs }),
    known,
  ) as Condition[];
}

function readyCondition({ problem, isSuspended }: ConditionFacts): NewCondition {
  if (problem !== undefined) return condition('Ready', 'False', problem.reason, problem.message);
  if (isSuspended) return condition('Ready', 'True', 'Suspended', 'The schedule is suspended: it creates no exports.');
  return condition('Ready', 'True', 'Scheduled', 'The schedule creates its exports.');
}

function upToDateCondition({ problem, lastSuccessMs, overdueMs, nowMs }: ConditionFacts): NewCondition {
  const since = lastSuccessMs === undefined ? 'No export has succeeded yet' : `The last success was at ${timestamp(lastSuccessMs)}`;
  if (overdueMs === undefined) return condition('UpToDate', 'False', problem?.reason ?? 'InvalidSchedule', `${since}. ${problem?.message}`);
  const limit = timestamp(overdueMs);
  if (nowMs >= overdueMs) return condition('UpToDate', 'False', 'Overdue', `${since}. The schedule is overdue since ${limit}.`);
  if (lastSuccessMs === undefined) return condition('UpToDate', 'Unknown', 'NoSuccessYet', `${since}. One is expected by ${limit}.`);
  return condition('UpToDate', 'True', 'ExportSucceeded', `${since}. The next one is expected by ${limit}.`);
}

function condition(type: string, status: Condition['status'], reason: string, message: string): NewCondition {
  return { type, status, reason, message: truncated(printable(message), MAX_MESSAGE_CHARACTERS) };
}
