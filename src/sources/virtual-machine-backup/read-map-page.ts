/** Reads one page of a map. Strict: a map that is read in part makes a wrong image. Pure. */

import { DiskliftError } from '../../common/errors.ts';
import type { MapExtent, MapPage } from './contract.ts';

/** @throws DiskliftError `SourceReadError`, without the server's own words */
export function readMapPage(text: string, name: string): MapPage {
  let answer: unknown;
  try {
    answer = JSON.parse(text);
  } catch {
    throw pageError(name, 'it is not JSON');
  }
  const { extents, next_offset: nextOffset } = fieldsOf(answer, name);
  // Go writes an empty list as null.
  if (extents !== null && !Array.isArray(extents)) throw pageError(name, 'it has no list of extents');
  return {
    extents: (extents ?? []).map((extent: unknown) => readExtent(extent, name)),
    nextOffset: nextOffset === null || nextOffset === undefined ? undefined : numberOf(nextOffset, 'next_offset', name),
  };
}

function readExtent(extent: unknown, name: string): MapExtent {
  const { offset, length, type, description } = fieldsOf(extent, name);
  return {
    offset: numberOf(offset, 'offset', name),
    length: numberOf(length, 'length', name),
    type: numberOf(type, 'type', name),
    description: typeof description === 'string' ? description : '',
  };
}

function fieldsOf(value: unknown, name: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null) throw pageError(name, 'it has something else where an object belongs');
  return value as Record<string, unknown>;
}

/** Larger numbers than 2^53 were rounded by the parser. */
function numberOf(value: unknown, field: string, name: string): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  throw pageError(name, `its ${field} is no whole number`);
}

function pageError(name: string, what: string): DiskliftError {
  return new DiskliftError('SourceReadError', `${name}: the answer with the map cannot be read: ${what}`);
}
