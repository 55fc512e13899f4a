/**
 * The map of changes that a QEMU server reports as a dirty bitmap, beside the zeros of base:allocation. One answer
 * holds several metadata contexts. Each has its own extents, which end at different offsets, and its own meaning of the
 * flags: 1 is "changed" in one and "hole" in the other.
 */

import { DiskliftError } from '../../common/errors.ts';
import type { ChangedExtent } from '../changed/contract.ts';
import { blockStatusError } from './nbd-client.ts';
import type { MetadataContexts } from './negotiation.ts';
import { DEPTH_OF_EXPORTED_IMAGE, STATE_DIRTY, STATE_ZERO, violation } from './protocol.ts';
import { type StatusExtent, type StatusQuery, statusExtents } from './status-extents.ts';

/** Judges the flags of one context. @throws DiskliftError */
interface Judgements {
  isZeros(extent: StatusExtent): boolean;
  isChanged(extent: StatusExtent): boolean;
  checkDepth(extent: StatusExtent): void;
}

function judgementsOf(name: string): Judgements {
  return {
    isZeros: ({ flags }) => (flags & STATE_ZERO) !== 0,
    isChanged({ offset, flags }) {
      // An unknown flag may be another meaning of the bitmap. A guess would make a wrong image.
      if ((flags & ~STATE_DIRTY) !== 0) throw blockStatusError(name, offset, violation(`flags ${flags} of a dirty bitmap`), 'have changed');
      return flags === STATE_DIRTY;
    },
    checkDepth({ offset, flags }) {
      if (flags > DEPTH_OF_EXPORTED_IMAGE) throw chainError(name, offset);
    },
  };
}

/**
 * A server that finds no such bitmap in the exported image takes the bitmap of the backing file. That bitmap misses all
 * writes to the overlay. NBD does not report whose bitmap it is.
 */
function chainError(name: string, offset: number): DiskliftError {
  return new DiskliftError(
    'FormatUnsupported',
    `${name}: the server exports a chain of images (at offset ${offset} the data lies in a backing file), and its dirty bitmap may be the ` +
      "backing file's, which misses changes; export the image that has the bitmap, or, if you know that the bitmap is the right one, export " +
      'without qemu:allocation-depth',
  );
}

/**
 * The extents of one answer, up to the nearest end of a context; the caller asks again from there.
 * @param statuses the descriptors of each context that was negotiated, by its number
 * @throws DiskliftError without a retry where the server shows a chain; `SourceReadError`
 */
export function* dirtyExtents(
  statuses: ReadonlyMap<number, Buffer>,
  { allocation, dirty, depth }: MetadataContexts,
  query: StatusQuery,
): Generator<ChangedExtent> {
  const { isZeros, isChanged, checkDepth } = judgementsOf(query.name);
  const openList = (context: number | undefined) =>
    context === undefined ? undefined : createCursor(statusExtents(statuses.get(context) ?? Buffer.alloc(0), query));
  const [zeros, changes, depths] = [openList(allocation), openList(dirty), openList(depth)];
  if (changes === undefined) return;
  const lists = [changes, zeros, depths].filter((list) => list !== undefined);
  for (let at = query.start; ; ) {
    for (const list of lists) list.moveTo(at);
    if (lists.some(({ extent }) => extent === undefined)) return;
    const end = Math.min(...lists.map(({ extent }) => (extent === undefined ? at : extent.offset + extent.length)));
    if (depths?.extent !== undefined) checkDepth(depths.extent);
    const kind = zeros?.extent !== undefined && isZeros(zeros.extent) ? 'zeros' : 'data';
    yield { offset: at, length: end - at, kind, isChanged: changes.extent === undefined || isChanged(changes.extent) };
    at = end;
  }
}

interface Cursor {
  /** The extent around the offset of the last move; undefined behind the last extent. */
  readonly extent: StatusExtent | undefined;
  moveTo(offset: number): void;
}

function createCursor(extents: Iterator<StatusExtent, void>): Cursor {
  let extent: StatusExtent | undefined;
  let end = 0;
  return {
    get extent() {
      return extent;
    },
    moveTo(offset) {
      if (extent !== undefined && offset < end) return;
      const next = extents.next();
      extent = next.done === true ? undefined : next.value;
      end = extent === undefined ? offset : extent.offset + extent.length;
    },
  };
}
