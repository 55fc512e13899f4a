/** The series of each schedule. They go away with it. */

import type { ScheduleObserver } from '../controller/schedules/observer.ts';
import type { ControllerMetricSet } from './controller-catalogue.ts';

type ScheduleMetrics = Pick<ControllerMetricSet, 'scheduleLastSuccess' | 'scheduleNext' | 'scheduleOverdue' | 'scheduleSuspended'>;

export function createScheduleSeries(metrics: ScheduleMetrics): ScheduleObserver {
  const { scheduleLastSuccess, scheduleNext, scheduleOverdue, scheduleSuspended } = metrics;
  const labelsOf = (namespace: string, name: string) => ({ export_namespace: namespace, schedule: name });

  return {
    onSchedule(namespace, name, { isSuspended, lastSuccessMs = 0, nextMs, overdueMs }) {
      const labels = labelsOf(namespace, name);
      scheduleSuspended.set(labels, isSuspended ? 1 : 0);
      scheduleLastSuccess.set(labels, lastSuccessMs / 1000);
      for (const [gauge, timeMs] of [
        [scheduleNext, nextMs],
        [scheduleOverdue, overdueMs],
      ] as const) {
        if (timeMs === undefined) gauge.remove(labels);
        else gauge.set(labels, timeMs / 1000);
      }
    },
    onScheduleGone(namespace, name) {
      for (const gauge of [scheduleLastSuccess, scheduleNext, scheduleOverdue, scheduleSuspended]) gauge.remove(labelsOf(namespace, name));
    },
  };
}
