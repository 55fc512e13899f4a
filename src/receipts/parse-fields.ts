/** Reads small JSON files of a destination: strict about the fields that it knows, and without any others. Pure. */

import { isFields, type Schema, schemaErrors } from '../resource/schema.ts';

/** `problem` is a sentence for people. It quotes nothing of the file. */
export type Parsed<T> = { value: T } | { problem: string };

export interface FileShape {
  /** Value of the field `format`. */
  format: string;
  schema: Schema;
}

/** @param bytes of the whole file */
export function parseFields<T>(bytes: Uint8Array, { format, schema }: FileShape): Parsed<T> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    return { problem: 'is no JSON' };
  }
  if (!isFields(value)) return { problem: 'is no object' };
  if (value.format !== format) return { problem: `has not the format ${format}` };
  const [error] = schemaErrors(value, schema, '');
  if (error !== undefined) return { problem: `${error.field.replace(/^\./, '')}: ${error.message}` };
  return { value: known(value, schema) as T };
}

function known(value: unknown, { properties }: Schema): unknown {
  if (properties === undefined || !isFields(value)) return value;
  return Object.fromEntries(
    Object.entries(properties).flatMap(([name, property]) => (Object.hasOwn(value, name) ? [[name, known(value[name], property)]] : [])),
  );
}
