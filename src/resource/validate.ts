/** Validates a DiskExport as the API server does: first by the schema of the CRD, then by the twins of its rules. */

import { DiskliftError } from '../common/errors.ts';
import { destinationErrors } from './destination-kinds.ts';
import type { DiskExport, DiskExportSpec, DiskExportStatus } from './disk-export.ts';
import { incrementalErrors } from './incremental-rules.ts';
import { completeMetadata, type FieldError, metadataErrors, specErrors, updateErrors } from './rules.ts';
import { type Fields, isFields, type Schema, schemaErrors } from './schema.ts';
import { sourceErrors } from './source-kinds.ts';
import { SPEC_SCHEMA } from './spec-schema.ts';
import { STATUS_SCHEMA } from './status-schema.ts';

const API_VERSION = 'disklift.dev/v1alpha1';

/**
 * @param value a DiskExport from JSON; its status is ignored
 * @returns a copy with all defaults filled in and no status
 * @throws DiskliftError `InvalidRequest`: one line that names a field and what is wrong with it
 */
export function validateDiskExport(value: unknown): DiskExport {
  const { apiVersion, kind, metadata, spec, status: _, ...others } = fields(value, 'the request');
  if (apiVersion !== API_VERSION) refuse({ field: 'apiVersion', message: `must be ${API_VERSION}` });
  if (kind !== 'DiskExport') refuse({ field: 'kind', message: 'must be DiskExport' });
  const [unknown] = Object.keys(others);
  if (unknown !== undefined) refuse({ field: unknown, message: 'is no known field' });
  const metadataFields = fields(metadata, 'metadata');
  refuseFirst(metadataErrors(metadataFields));
  const valid = conforming<DiskExportSpec>(spec, SPEC_SCHEMA, 'spec');
  refuseFirst(sourceErrors(valid));
  refuseFirst(specErrors(valid));
  refuseFirst(destinationErrors(valid.destination));
  refuseFirst(incrementalErrors(valid));
  return { apiVersion: API_VERSION, kind: 'DiskExport', metadata: completeMetadata(metadataFields), spec: valid };
}

/** @throws DiskliftError `InvalidRequest` where `old` cannot become `value` */
export function validateUpdate(old: DiskExport, value: DiskExport): void {
  refuseFirst(updateErrors(old.spec, value.spec));
}

/** @throws DiskliftError `InvalidRequest`, as {@link validateDiskExport} */
export function validateStatus(value: unknown): DiskExportStatus {
  return conforming<DiskExportStatus>(value, STATUS_SCHEMA, 'status');
}

/**
 * @returns the reason why a status of the API server cannot be read; undefined when it can. Unknown fields and words
 * come from another version of disklift, and are no reason.
 */
export function unreadableStatus(value: unknown): string | undefined {
  const copy = withoutNulls(structuredClone(value), STATUS_SCHEMA);
  for (const { keyword, field, message } of schemaErrors(copy, STATUS_SCHEMA, 'status'))
    if (keyword === 'type') return `${field}: ${message}`;
  const times = copy as DiskExportStatus;
  for (const field of ['startTime', 'completionTime'] as const)
    if (times[field] !== undefined && Number.isNaN(Date.parse(times[field]))) return `status.${field}: must be a time`;
  return undefined;
}

function refuse({ field, message }: FieldError): never {
  throw new DiskliftError('InvalidRequest', `${field}: ${message}`);
}

function refuseFirst(errors: Iterable<FieldError>): void {
  for (const error of errors) refuse(error);
}

function fields(value: unknown, field: string): Fields {
  if (value === undefined || value === null) refuse({ field, message: 'is required' });
  if (!isFields(value)) refuse({ field, message: 'must be an object' });
  return value;
}

/** An unknown field is reported before a missing one: a mistyped name causes both. */
const BY_PRIORITY = ['additionalProperties', 'type', 'required'] as const;

/** @param field for messages */
function conforming<T>(value: unknown, schema: Schema, field: string): T {
  const copy = withoutNulls(structuredClone(fields(value, field)), schema);
  const errors = [...schemaErrors(copy, schema, field)];
  const clearest = BY_PRIORITY.map((keyword) => errors.find((error) => error.keyword === keyword)).find(Boolean) ?? errors[0];
  if (clearest !== undefined) refuse(clearest);
  return copy as T;
}

/** The API server treats a null field as absent. */
function withoutNulls(value: unknown, { properties, items }: Schema): unknown {
  if (Array.isArray(value)) return items === undefined ? value : value.map((item) => withoutNulls(item, items));
  if (!isFields(value) || properties === undefined) return value;
  const known = Object.entries(value).filter(([name, entry]) => entry !== null || !Object.hasOwn(properties, name));
  return Object.fromEntries(
    known.map(([name, entry]) => {
      const property = Object.hasOwn(properties, name) ? properties[name] : undefined;
      return [name, property === undefined ? entry : withoutNulls(entry, property)];
    }),
  );
}
