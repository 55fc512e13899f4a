/** Reads fields of objects of KubeVirt. Their specs and statuses are JSON that another program writes. */

import { type Fields, isFields } from '../../resource/schema.ts';

/** An object of the API server; `spec` and `status` are not validated. */
export interface UncheckedObject {
  metadata: {
    name?: string;
    namespace?: string;
    uid?: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
    deletionTimestamp?: string;
  };
  spec?: unknown;
  status?: unknown;
}

/** @returns undefined where the path ends early */
export function valueAt(value: unknown, ...path: readonly string[]): unknown {
  let found = value;
  for (const name of path) {
    if (!isFields(found)) return undefined;
    found = found[name];
  }
  return found;
}

/** @returns undefined for an empty text too, as KubeVirt writes an absent one */
export function textAt(value: unknown, ...path: readonly string[]): string | undefined {
  const found = valueAt(value, ...path);
  return typeof found === 'string' && found !== '' ? found : undefined;
}

export function textsAt(value: unknown, ...path: readonly string[]): string[] {
  const found = valueAt(value, ...path);
  return Array.isArray(found) ? found.filter((text) => typeof text === 'string') : [];
}

export function textMapAt(value: unknown, ...path: readonly string[]): Record<string, string> | undefined {
  const found = valueAt(value, ...path);
  if (!isFields(found)) return undefined;
  return Object.fromEntries(Object.entries(found).filter((entry): entry is [string, string] => typeof entry[1] === 'string'));
}

export function objectsAt(value: unknown, ...path: readonly string[]): Fields[] {
  const found = valueAt(value, ...path);
  return Array.isArray(found) ? found.filter(isFields) : [];
}
