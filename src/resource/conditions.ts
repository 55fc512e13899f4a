/** The conditions of a status, and the only functions that change them. */

import type { Condition, DiskExportStatus } from './disk-export.ts';
import { timestamp } from './timestamp.ts';

export type NewCondition = Pick<Condition, 'type' | 'status' | 'reason' | 'message'>;

export interface ConditionMoment {
  /** Of the request as it was when the condition was found. */
  observedGeneration?: number | undefined;
  /** Milliseconds since the Unix epoch. */
  nowMs: number;
}

/**
 * @returns the conditions with `condition` in its place. `lastTransitionTime` moves only when the condition's status becomes
 * another; reason and message may change without.
 */
export function setCondition(
  conditions: readonly Condition[],
  { type, status, reason, message }: NewCondition,
  { observedGeneration, nowMs }: ConditionMoment,
): Condition[] {
  const index = conditions.findIndex((condition) => condition.type === type);
  const old = conditions[index];
  const sinceTime = old?.status === status ? timeOf(old) : undefined;
  const lastTransitionTime = sinceTime ?? timestamp(nowMs);
  const generation = observedGeneration === undefined ? {} : { observedGeneration };
  const condition: Condition = { type, status, reason, message, lastTransitionTime, ...generation };
  return index < 0 ? [...conditions, condition] : conditions.with(index, condition);
}

/** The API server gives a new object a condition without a time; that of earlier versions of the CRD had the epoch. */
function timeOf({ lastTransitionTime }: Condition): string | undefined {
  return lastTransitionTime === undefined || Date.parse(lastTransitionTime) === 0 ? undefined : lastTransitionTime;
}

/** What was found of a request is as true of its next generation, because nothing that matters can be edited. */
export function statusOfGeneration(status: DiskExportStatus, generation: number | undefined): DiskExportStatus {
  if (generation === undefined) return status;
  const { conditions } = status;
  const observed = { ...status, observedGeneration: generation };
  return conditions === undefined
    ? observed
    : { ...observed, conditions: conditions.map((each) => ({ ...each, observedGeneration: generation })) };
}
