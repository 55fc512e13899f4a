/** The contract of observers of schedules, such as the metrics. */

export interface ScheduleState {
  isSuspended: boolean;
  /** In milliseconds since the epoch, as all times here; undefined: no success is known. */
  lastSuccessMs: number | undefined;
  /** Undefined while the schedule is suspended or cannot be read. */
  nextMs: number | undefined;
  /** The time at which the schedule becomes, or became, overdue without another success. */
  overdueMs: number | undefined;
}

export interface ScheduleObserver {
  /** Called after each look at the schedule. */
  onSchedule(namespace: string, name: string, state: ScheduleState): void;
  /** The schedule was deleted, or this process does not work on it any more. */
  onScheduleGone(namespace: string, name: string): void;
}
