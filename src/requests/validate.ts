/** Whether a DiskExport is one, judged as the API server would: the CRD's own schema, then the twins of its rules. */

import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv';
import { DiskliftError } from '../common/errors.ts';
import type { DiskExport, DiskExportSpec, DiskExportStatus } from './disk-export.ts';
import { type Fields, isFields } from './fields.ts';
import { completeMetadata, metadataBreaches } from './metadata.ts';
import { type Breach, specBreaches, updateBreaches } from './rules.ts';
import { SPEC_SCHEMA } from './spec-schema.ts';
import { STATUS_SCHEMA } from './status-schema.ts';

const API_VERSION = 'disklift.dev/v1alpha1';

/** `verbose` has errors carry the part of the schema that was not met. */
const OPTIONS = { strict: true, strictRequired: false, allowUnionTypes: true, useDefaults: true, allErrors: true, verbose: true };

/** A schema takes a while to be compiled, and most commands need none. */
function compiledOnce(schema: object): () => ValidateFunction {
  let compiled: ValidateFunction | undefined;
  return () => {
    compiled ??= new Ajv(OPTIONS).compile(schema);
    return compiled;
  };
}

const specValidator = compiledOnce(SPEC_SCHEMA);
const statusValidator = compiledOnce(STATUS_SCHEMA);

/**
 * @param value a DiskExport as JSON has it; its status is not looked at
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
  refuseFirst(metadataBreaches(metadataFields));
  const valid = conforming<DiskExportSpec>(spec, { field: 'spec', schema: SPEC_SCHEMA, validate: specValidator() });
  refuseFirst(specBreaches(valid));
  return { apiVersion: API_VERSION, kind: 'DiskExport', metadata: completeMetadata(metadataFields), spec: valid };
}

/** @throws DiskliftError `InvalidRequest` where `old` cannot become `value` */
export function validateUpdate(old: DiskExport, value: DiskExport): void {
  refuseFirst(updateBreaches(old.spec, value.spec));
}

/** @throws DiskliftError `InvalidRequest`, as {@link validateDiskExport} */
export function validateStatus(value: unknown): DiskExportStatus {
  return conforming<DiskExportStatus>(value, { field: 'status', schema: STATUS_SCHEMA, validate: statusValidator() });
}

function refuse({ field, message }: Breach): never {
  throw new DiskliftError('InvalidRequest', `${field}: ${message}`);
}

function refuseFirst(breaches: Iterable<Breach>): void {
  for (const breach of breaches) refuse(breach);
}

function fields(value: unknown, field: string): Fields {
  if (value === undefined || value === null) refuse({ field, message: 'is required' });
  if (!isFields(value)) refuse({ field, message: 'must be an object' });
  return value;
}

interface Expected {
  /** For messages. */
  field: string;
  schema: Fields;
  /** The schema, compiled. */
  validate: ValidateFunction;
}

function conforming<T>(value: unknown, { field, schema, validate }: Expected): T {
  const copy = withoutNulls(structuredClone(fields(value, field)), schema);
  if (validate(copy)) return copy as T;
  return refuse(breachOf(field, validate.errors ?? []));
}

/** The API server takes a field that is null for one that is not there. */
function withoutNulls(value: unknown, schema: Fields): unknown {
  const { properties, items } = schema;
  if (Array.isArray(value)) return isFields(items) ? value.map((item) => withoutNulls(item, items)) : value;
  if (!isFields(value) || !isFields(properties)) return value;
  const known = Object.entries(value).filter(([name, entry]) => entry !== null || !Object.hasOwn(properties, name));
  return Object.fromEntries(
    known.map(([name, entry]) => [name, Object.hasOwn(properties, name) ? withoutNulls(entry, properties[name] as Fields) : entry]),
  );
}

/** A mistyped name comes first: it explains what is missing. */
const BY_PRIORITY = ['additionalProperties', 'type', 'required', 'oneOf'];

function breachOf(root: string, errors: readonly ErrorObject[]): Breach {
  // What was tried in vain for one of several says nothing by itself.
  const telling = errors.filter(({ schemaPath }) => !schemaPath.includes('/oneOf/'));
  const error = BY_PRIORITY.map((keyword) => telling.find((candidate) => candidate.keyword === keyword)).find(Boolean) ?? telling[0];
  if (error === undefined) return { field: root, message: 'is not valid' };
  const field = `${root}${error.instancePath.replace(/\/(\d+)(?=\/|$)/g, '[$1]').replaceAll('/', '.')}`;
  const { params } = error;
  switch (error.keyword) {
    case 'additionalProperties':
      return { field: `${field}.${params.additionalProperty}`, message: 'is no known field' };
    case 'required':
      return { field: `${field}.${params.missingProperty}`, message: 'is required' };
    case 'oneOf':
      return {
        field,
        message: `must have exactly one of ${(error.schema as { required: string[] }[]).flatMap(({ required }) => required).join(', ')}`,
      };
    case 'enum':
      return { field, message: `must be one of ${(params.allowedValues as unknown[]).join(', ')}` };
    default:
      return { field, message: error.message ?? 'is not valid' };
  }
}
