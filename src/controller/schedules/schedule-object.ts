/** A DiskExportSchedule and its exports as the API server sends them, with the facts that a decision needs. Pure. */

import { isDeepStrictEqual } from 'node:util';
import type { DiskExportScheduleSpec, DiskExportScheduleStatus } from '../../resource/export-schedule.ts';
import { SCHEDULE_SPEC_SCHEMA, SCHEDULE_STATUS_SCHEMA } from '../../resource/export-schedule-schema.ts';
import { SCHEDULED_TIME } from '../../resource/placeholders.ts';
import { isFields, type Schema, schemaErrors } from '../../resource/schema.ts';
import type { ScheduleObject } from '../../stores/kubernetes/client/fleet-objects.ts';
import type { ExportObject } from '../../stores/kubernetes/client/objects.ts';
import { isFinished, isTerminating } from '../../stores/kubernetes/store/export-object.ts';

export const SCHEDULE_RESOURCE = { apiVersion: 'disklift.dev/v1alpha1', kind: 'DiskExportSchedule' } as const;

/** Label of each export of a schedule. Its value is the name of the schedule. */
export const SCHEDULE_LABEL = 'disklift.dev/schedule';

export interface ReadSchedule {
  metadata: ScheduleObject['metadata'];
  createdMs: number;
  /** An error message when another version's schema has admitted the object. */
  spec: DiskExportScheduleSpec | string;
  status: DiskExportScheduleStatus;
}

export function readScheduleObject({ metadata, spec, status }: ScheduleObject): ReadSchedule {
  const read = isFields(spec) ? conforming<DiskExportScheduleSpec>(spec, SCHEDULE_SPEC_SCHEMA, 'spec') : 'spec: is required';
  const known = isFields(status) ? conforming<DiskExportScheduleStatus>(status, SCHEDULE_STATUS_SCHEMA, 'status') : {};
  const createdMs = timeOf(metadata.creationTimestamp) ?? 0;
  return { metadata, createdMs, spec: read, status: typeof known === 'string' ? {} : known };
}

/** @returns a copy with its defaults, or the first error. Fields of a later version are no error. */
function conforming<T>(value: object, schema: Schema, field: string): T | string {
  const copy = structuredClone(value);
  for (const error of schemaErrors(copy, schema, field))
    if (error.keyword !== 'additionalProperties') return `${error.field}: ${error.message}`;
  return copy as T;
}

/** @returns milliseconds since the epoch; undefined for an absent or unreadable time */
export function timeOf(text: unknown): number | undefined {
  const timeMs = typeof text === 'string' ? Date.parse(text) : Number.NaN;
  return Number.isNaN(timeMs) ? undefined : timeMs;
}

/** One export of the schedule. */
export interface ScheduledExport {
  name: string;
  uid: string;
  scheduledMs: number;
  result: 'Unfinished' | 'Succeeded' | 'Failed';
  completedMs: number | undefined;
  isTerminating: boolean;
  isCancelled: boolean;
}

/** @returns the exports that the schedule owns: not those of a deleted schedule of the same name */
export function exportsOf(schedule: Pick<ScheduleObject, 'metadata'>, objects: Iterable<ExportObject>): ScheduledExport[] {
  return [...objects].filter((object) => isOwnedBy(object, schedule.metadata.uid)).map(readExport);
}

export function isOwnedBy({ metadata: { ownerReferences = [] } }: ExportObject, uid: string): boolean {
  return ownerReferences.some((owner) => owner.uid === uid);
}

function readExport(object: ExportObject): ScheduledExport {
  const { metadata, spec, status } = object;
  const { phase, completionTime } = isFields(status) ? status : {};
  return {
    name: metadata.name,
    uid: metadata.uid,
    scheduledMs: timeOf(metadata.annotations?.[SCHEDULED_TIME]) ?? 0,
    result: !isFinished(object) ? 'Unfinished' : phase === 'Succeeded' ? 'Succeeded' : 'Failed',
    completedMs: timeOf(completionTime),
    isTerminating: isTerminating(object),
    isCancelled: isFields(spec) && spec.cancel === true,
  };
}

/**
 * @returns a merge patch that turns the status of the object into `wanted`; undefined when they are the same. A field
 * that is no longer there is null.
 */
export function statusPatch({ status }: ScheduleObject, wanted: DiskExportScheduleStatus): Record<string, unknown> | undefined {
  const known = isFields(status) ? status : {};
  const names = new Set([...Object.keys(known), ...Object.keys(wanted)]);
  const changed = [...names]
    .map((name) => [name, wanted[name as keyof DiskExportScheduleStatus]] as const)
    .filter(([name, value]) => !isDeepStrictEqual(known[name], value));
  return changed.length === 0 ? undefined : Object.fromEntries(changed.map(([name, value]) => [name, value ?? null]));
}
