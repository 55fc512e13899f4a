/**
 * Asks for a map of changes until the map is whole. An answer may end early: QEMU cuts the extents of each metadata
 * context at 131,072, and a server may page. An answer may also lack bytes in the middle, where a program between
 * client and QEMU loses extents; then smaller slices are asked for, which nothing has to cut.
 */

import { abortable } from '../../common/abortable.ts';
import { alignDown, MIB } from '../../common/bytes.ts';
import { DiskliftError } from '../../common/errors.ts';
import type { ChangedExtent } from './contract.ts';

export interface MapQuestion {
  /** The name of the disk in messages. */
  name: string;
  sizeBytes: number;
  /** Most bytes that one question may cover. */
  sliceBytes: number;
  /**
   * Asks about `length` bytes from `offset` on.
   * @returns extents in order; the last one may end behind the slice, or in front of its end
   */
  ask(offset: number, length: number): Promise<Iterable<ChangedExtent>>;
  signal: AbortSignal;
}

/** 131,072 extents of 512 bytes, the least granularity of QEMU's bitmaps: no answer about it is cut. */
export const MIN_SLICE_BYTES = 64 * MIB;

/** Smaller slices after an answer with a gap; four of them lead from 4 GiB to the least. */
const SLICE_DIVISOR = 8;

/**
 * @throws DiskliftError `ChangesRefused` that names the offset of a gap or of an extent beyond the disk; `Cancelled`
 * at once; the errors of `ask`
 */
export async function* wholeMap({ name, sizeBytes, ask, signal, ...question }: MapQuestion): AsyncGenerator<ChangedExtent> {
  let { sliceBytes } = question;
  for (let at = 0; at < sizeBytes; ) {
    let hasGap = true;
    for (const extent of await abortable(ask(at, Math.min(sliceBytes, sizeBytes - at)), signal)) {
      const end = extent.offset + extent.length;
      if (extent.length <= 0 || extent.offset < at)
        throw mapError(name, at, `it has ${extent.length} bytes at offset ${extent.offset}, out of order`);
      if (end > sizeBytes) throw mapError(name, at, `it goes on to offset ${end}, and the disk ends at ${sizeBytes}`);
      hasGap = extent.offset > at;
      if (hasGap) break;
      yield extent;
      at = end;
    }
    if (!hasGap) continue;
    if (sliceBytes <= MIN_SLICE_BYTES) throw mapError(name, at, 'it lacks the bytes from there on, also in the smallest slices');
    sliceBytes = Math.max(MIN_SLICE_BYTES, alignDown(sliceBytes / SLICE_DIVISOR, MIN_SLICE_BYTES));
  }
}

function mapError(name: string, offset: number, what: string): DiskliftError {
  return new DiskliftError(
    'ChangesRefused',
    `${name}: the map of changed blocks cannot be used at offset ${offset}: ${what}; make a full image instead`,
  );
}
