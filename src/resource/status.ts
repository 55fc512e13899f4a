/** Changes of a status: its conditions, and the limits of its schema. Pure. */

import { printable, truncated } from '../common/text.ts';
import type { Condition, DiskExportStatus } from './disk-export.ts';
import { isFields, type Schema, schemaErrors } from './schema.ts';
import { STATUS_SCHEMA } from './status-schema.ts';
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

/** Fields that people read. All others are for programs, which take them whole or not at all. */
const TEXTS: ReadonlySet<string> = new Set(['message', 'location', 'etag']);

/**
 * etcd takes objects of 1.5 MiB, and an object has the paths of its disks up to four times beside the status: in the spec, in the
 * annotation of `kubectl apply`, and in managedFields.
 */
const MAX_STATUS_BYTES = 400_000;

/** Tried one after the other until the whole status is small enough. */
const MAX_TEXT_CHARACTERS = [32_768, 2048, 512, 128] as const;

/**
 * Every status is passed through this function where it is made. It truncates texts and lists to the limits of the schema, and leaves
 * out what would be refused.
 */
export function fitStatus(status: DiskExportStatus): DiskExportStatus {
  let fitted: DiskExportStatus = {};
  for (const maxCharacters of MAX_TEXT_CHARACTERS) {
    fitted = conformed(status, STATUS_SCHEMA, { name: 'status', maxCharacters }) as DiskExportStatus;
    if (Buffer.byteLength(JSON.stringify(fitted)) <= MAX_STATUS_BYTES) break;
  }
  return fitted;
}

interface Place {
  /** Of the field. */
  name: string;
  maxCharacters: number;
}

/** @returns undefined for what no conforming value can be made of */
function conformed(value: unknown, schema: Schema, place: Place): unknown {
  if (typeof value === 'string') return fitText(value, schema, place);
  if (Array.isArray(value) && schema.items !== undefined) return fitList(value, schema, place);
  if (isFields(value) && schema.properties !== undefined) return fitFields(value, schema, place);
  return conforms(value, schema) ? value : undefined;
}

function conforms(value: unknown, schema: Schema): boolean {
  return schemaErrors(value, schema, '').next().done === true;
}

function fitText(value: string, schema: Schema, { name, maxCharacters }: Place): string | undefined {
  const text = TEXTS.has(name) ? truncated(printable(value), Math.min(schema.maxLength ?? maxCharacters, maxCharacters)) : value;
  return conforms(text, schema) ? text : undefined;
}

function fitList(values: readonly unknown[], { items, maxItems }: Schema, place: Place): unknown[] {
  const fitted = values.map((value) => conformed(value, items as Schema, place)).filter((value) => value !== undefined);
  return fitted.slice(0, maxItems);
}

function fitFields(value: object, { properties = {}, required = [] }: Schema, { maxCharacters }: Place): object | undefined {
  const fitted = Object.fromEntries(
    Object.entries(properties)
      .map(([name, property]) => [name, conformed((value as Record<string, unknown>)[name], property, { name, maxCharacters })] as const)
      .filter(([, field]) => field !== undefined),
  );
  return required.every((name) => fitted[name] !== undefined) ? fitted : undefined;
}
