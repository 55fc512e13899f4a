/** An index of exports by their schedule, over a copy of all exports. */

import type { ExportObject } from '../../stores/kubernetes/client/objects.ts';
import { SCHEDULE_LABEL } from './schedule-object.ts';

export interface ExportsOfSchedules {
  /**
   * To be called when the export was added, changed or removed.
   * @returns the keys of the schedules that it belongs to, and belonged to before
   */
  update(key: string): string[];
  /** @param key of the schedule */
  ofSchedule(key: string): ExportObject[];
}

/** @param get the export of a key as it is now */
export function createExportsOfSchedules(get: (key: string) => ExportObject | undefined): ExportsOfSchedules {
  const exportsOf = new Map<string, Set<string>>();
  const scheduleOf = new Map<string, string>();

  function put(key: string, schedule: string): void {
    scheduleOf.set(key, schedule);
    exportsOf.set(schedule, (exportsOf.get(schedule) ?? new Set()).add(key));
  }

  function take(key: string, schedule: string): void {
    scheduleOf.delete(key);
    const keys = exportsOf.get(schedule);
    keys?.delete(key);
    if (keys?.size === 0) exportsOf.delete(schedule);
  }

  return {
    update(key) {
      const [before, now] = [scheduleOf.get(key), scheduleKeyOf(get(key))];
      if (before !== undefined && before !== now) take(key, before);
      if (now !== undefined && before !== now) put(key, now);
      return [...new Set([before, now].filter((each) => each !== undefined))];
    },
    ofSchedule: (schedule) => [...(exportsOf.get(schedule) ?? [])].flatMap((key) => get(key) ?? []),
  };
}

function scheduleKeyOf(object: ExportObject | undefined): string | undefined {
  const name = object?.metadata.labels?.[SCHEDULE_LABEL];
  return object === undefined || name === undefined ? undefined : `${object.metadata.namespace}/${name}`;
}
