/** JSON Schema as far as the CRD uses it, and the errors that it finds in a value (docs/decisions/0011-start-up.md). */

import type { FieldError } from './rules.ts';

export type Fields = Record<string, unknown>;

export function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

type TypeName = 'object' | 'array' | 'string' | 'integer' | 'boolean';

/** The supported keywords. The compiler refuses a generated schema with any other keyword. */
export interface Schema {
  type: TypeName | readonly TypeName[];
  default?: unknown;
  enum?: readonly (string | number)[];
  minimum?: number;
  maximum?: number;
  /** In characters of Unicode. */
  minLength?: number;
  maxLength?: number;
  pattern?: string;
  items?: Schema;
  minItems?: number;
  maxItems?: number;
  properties?: Readonly<Record<string, Schema>>;
  /** The default is that other fields may have any value. */
  additionalProperties?: false | Schema;
  required?: readonly string[];
}

export interface SchemaError extends FieldError {
  keyword: keyof Schema;
}

/**
 * Finds every error in `value`; `field` is its name. Fills in the defaults of absent fields on the way, so that the
 * value is complete after the last error.
 */
export function* schemaErrors(value: unknown, schema: Schema, field: string): Generator<SchemaError> {
  const types = [schema.type].flat();
  if (!types.some((type) => isOfType(value, type))) yield { keyword: 'type', field, message: `must be ${types.join(',')}` };
  if (typeof value === 'number') yield* numberErrors(value, schema, field);
  if (typeof value === 'string') yield* stringErrors(value, schema, field);
  if (schema.enum !== undefined && !schema.enum.some((allowed) => allowed === value))
    yield { keyword: 'enum', field, message: `must be one of ${schema.enum.join(', ')}` };
  if (Array.isArray(value)) yield* arrayErrors(value, schema, field);
  if (isFields(value)) yield* objectErrors(value, schema, field);
}

function isOfType(value: unknown, type: TypeName): boolean {
  switch (type) {
    case 'object':
      return isFields(value);
    case 'array':
      return Array.isArray(value);
    case 'integer':
      return Number.isInteger(value);
    default:
      return typeof value === type;
  }
}

function* numberErrors(value: number, { minimum, maximum }: Schema, field: string): Generator<SchemaError> {
  if (maximum !== undefined && value > maximum) yield { keyword: 'maximum', field, message: `must be <= ${maximum}` };
  if (minimum !== undefined && value < minimum) yield { keyword: 'minimum', field, message: `must be >= ${minimum}` };
}

function* stringErrors(value: string, { minLength = 0, maxLength, pattern }: Schema, field: string): Generator<SchemaError> {
  const { length } = [...value];
  if (maxLength !== undefined && length > maxLength)
    yield { keyword: 'maxLength', field, message: `must NOT have more than ${maxLength} characters` };
  if (length < minLength) yield { keyword: 'minLength', field, message: `must NOT have fewer than ${minLength} characters` };
  if (pattern !== undefined && !new RegExp(pattern, 'u').test(value))
    yield { keyword: 'pattern', field, message: `must match pattern "${pattern}"` };
}

function* arrayErrors(value: unknown[], { items, minItems = 0, maxItems }: Schema, field: string): Generator<SchemaError> {
  if (maxItems !== undefined && value.length > maxItems)
    yield { keyword: 'maxItems', field, message: `must NOT have more than ${maxItems} items` };
  if (value.length < minItems) yield { keyword: 'minItems', field, message: `must NOT have fewer than ${minItems} items` };
  if (items === undefined) return;
  for (const [index, item] of value.entries()) yield* schemaErrors(item, items, `${field}[${index}]`);
}

function* objectErrors(value: Fields, schema: Schema, field: string): Generator<SchemaError> {
  const { properties = {}, additionalProperties, required = [] } = schema;
  const has = (name: string) => value[name] !== undefined;
  for (const [name, property] of Object.entries(properties))
    if (!has(name) && property.default !== undefined) value[name] = structuredClone(property.default);
  for (const name of required) if (!has(name)) yield { keyword: 'required', field: `${field}.${name}`, message: 'is required' };
  for (const [name, entry] of Object.entries(value)) {
    if (additionalProperties === undefined || Object.hasOwn(properties, name)) continue;
    if (additionalProperties !== false) yield* schemaErrors(entry, additionalProperties, `${field}.${name}`);
    else yield { keyword: 'additionalProperties', field: `${field}.${name}`, message: 'is no known field' };
  }
  for (const [name, property] of Object.entries(properties)) if (has(name)) yield* schemaErrors(value[name], property, `${field}.${name}`);
}
