/** Changes of a status: its conditions, and the limits of its schema. Pure. */

import { timestamp } from '../common/clock.ts';
import { printable, truncated } from '../common/text.ts';
import type { Condition, DiskExportStatus } from './disk-export.ts';
import { isFields, type Schema, schemaErrors } from './schema.ts';
import { STATUS_SCHEMA } from './status-schema.ts';

export type NewCondition = Pick<Condition, 'type' | 'status' | 'reason' | 'message'>;

export interface ConditionMoment {
  /** Generation of the request for which the condition holds. */
  observedGeneration?: number | undefined;
  /** Milliseconds since the Unix epoch. */
  nowMs: number;
}

/**
 * @returns the conditions with `condition` added or replaced. `lastTransitionTime` changes only with the status of the
 * condition, and not with its reason or message.
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

/** The default condition of the CRD has no time. Earlier versions of the CRD gave it the epoch. */
function timeOf({ lastTransitionTime }: Condition): string | undefined {
  return lastTransitionTime === undefined || Date.parse(lastTransitionTime) === 0 ? undefined : lastTransitionTime;
}

/** Sets the generation of a status. It stays true, because no field can be edited that affects it. */
export function statusOfGeneration(status: DiskExportStatus, generation: number | undefined): DiskExportStatus {
  if (generation === undefined) return status;
  const { conditions } = status;
  const observed = { ...status, observedGeneration: generation };
  return conditions === undefined
    ? observed
    : { ...observed, conditions: conditions.map((each) => ({ ...each, observedGeneration: generation })) };
}

export function namesOpenUpload(status: DiskExportStatus | undefined): boolean {
  return status?.disks?.some(({ upload }) => upload !== undefined) ?? false;
}

/** Fields for people, which may be truncated. A field for programs is kept whole or left out. */
const TEXTS: ReadonlySet<string> = new Set(['message', 'location', 'etag']);

/**
 * etcd takes objects of 1.5 MiB, and an object has the paths of its disks up to four times beside the status: in the
 * spec, in the annotation of `kubectl apply`, and in managedFields.
 */
const MAX_STATUS_BYTES = 400_000;

/** Limits of texts. Each is tried in turn until the status is small enough. */
const MAX_TEXT_CHARACTERS = [32_768, 2048, 512, 128] as const;

/**
 * Every status is passed through this function where it is made. It truncates texts and lists to the limits of the
 * schema, and leaves out what would be refused.
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
  /** Name of the field. */
  name: string;
  maxCharacters: number;
}

/** @returns the conforming value; undefined when none exists */
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
