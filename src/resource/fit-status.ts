/** A status as its schema lets it be. Pure, and total: whatever it is given, the API server accepts what it returns. */

import { printable, truncated } from '../common/printable.ts';
import type { DiskExportStatus } from './disk-export.ts';
import { isFields } from './fields.ts';
import { type Schema, schemaErrors } from './schema.ts';
import { STATUS_SCHEMA } from './status-schema.ts';

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
