/** The extents of one metadata context in one answer. */

import { blockStatusError } from './nbd-client.ts';
import type { WantedParts } from './outstanding-requests.ts';
import { violation } from './protocol.ts';

export interface StatusExtent {
  offset: number;
  length: number;
  /** Their meaning depends on the context. */
  flags: number;
}

export interface StatusQuery {
  /** The name of the disk in messages. */
  name: string;
  start: number;
  end: number;
  sizeBytes: number;
  wanted: WantedParts;
}

/**
 * The last extent may end behind the query's range, as long as it ends on the disk.
 * @param descriptors pairs of u32, length and flags
 * @throws DiskliftError `SourceReadError` that names the offset
 */
export function* statusExtents(descriptors: Buffer, { name, start, end, sizeBytes, wanted }: StatusQuery): Generator<StatusExtent, void> {
  const invalid = (what: string) => blockStatusError(name, offset, violation(what), wanted);
  let offset = start;
  for (let at = 0; at < descriptors.length; at += 8) {
    const length = descriptors.readUInt32BE(at);
    if (length === 0) throw invalid('an extent of no length');
    if (offset >= end) throw invalid('an extent that was not asked for');
    if (offset + length > sizeBytes) throw invalid(`an extent up to ${offset + length} of ${sizeBytes} bytes`);
    yield { offset, length, flags: descriptors.readUInt32BE(at + 4) };
    offset += length;
  }
}
