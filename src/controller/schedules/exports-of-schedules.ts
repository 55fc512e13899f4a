/** An index of exports by their schedule, over a copy of all exports. */

import type { ExportObject } from '../../stores/kubernetes/client/objects.ts';
import { GroupedKeys } from '../grouped-keys.ts';
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
  const exportsOf = new GroupedKeys();

  return {
    update(key) {
      const before = exportsOf.groupsOf(key);
      const now = scheduleKeyOf(get(key));
      exportsOf.set(key, now === undefined ? [] : [now]);
      return [...new Set([...before, ...exportsOf.groupsOf(key)])];
    },
    ofSchedule: (schedule) => [...exportsOf.get(schedule)].flatMap((key) => get(key) ?? []),
  };
}

function scheduleKeyOf(object: ExportObject | undefined): string | undefined {
  const name = object?.metadata.labels?.[SCHEDULE_LABEL];
  return object === undefined || name === undefined ? undefined : `${object.metadata.namespace}/${name}`;
}
