/** From a list of ranges to the extents of a disk, which is a clone of the snapshot. Pure. */

import { throwIfAborted } from '../../../common/abortable.ts';
import type { SourceExtent } from '../../contract.ts';
import type { ChangedBlocks } from '../contract.ts';
import type { RangeList } from './contract.ts';
import { refusedList } from './service-errors.ts';

/** Signals are asked once in so many extents. */
const EXTENTS_PER_LOOK = 4096;

interface Part {
  offset: number;
  length: number;
  isListed: boolean;
}

/**
 * The bytes of a disk behind the end of the volume count as listed: storage may give a clone more bytes than its
 * snapshot has, and the list does not show them.
 * @throws DiskliftError `ChangesRefused` for a disk that is smaller than the volume
 */
function* partsOf(name: string, { capacityBytes, count, starts, ends }: RangeList, diskSizeBytes: number): Generator<Part> {
  if (diskSizeBytes < capacityBytes)
    throw refusedList(name, `it is of a volume of ${capacityBytes} bytes, and the disk has ${diskSizeBytes}`);
  let at = 0;
  for (let index = 0; index < count; index += 1) {
    const [start, end] = [starts[index] as number, ends[index] as number];
    if (start > at) yield { offset: at, length: start - at, isListed: false };
    yield { offset: start, length: end - start, isListed: true };
    at = end;
  }
  if (capacityBytes > at) yield { offset: at, length: capacityBytes - at, isListed: false };
  if (diskSizeBytes > capacityBytes) yield { offset: capacityBytes, length: diskSizeBytes - capacityBytes, isListed: true };
}

/** @param list the ranges that differ from the base */
export function changedBlocksOf(name: string, list: RangeList, diskSizeBytes: number): ChangedBlocks {
  return {
    async *extents(signal) {
      // The list does not show zeros. The scan finds them where it reads.
      for (const { offset, length, isListed } of paced(partsOf(name, list, diskSizeBytes), signal))
        yield { offset, length, kind: 'data', isChanged: isListed };
    },
  };
}

/** @param list the ranges that have data */
export async function* dataExtentsOf(
  name: string,
  list: RangeList,
  diskSizeBytes: number,
  signal: AbortSignal,
): AsyncGenerator<SourceExtent> {
  for (const { offset, length, isListed } of paced(partsOf(name, list, diskSizeBytes), signal))
    yield { offset, length, kind: isListed ? 'data' : 'zeros' };
}

/** @throws DiskliftError `Cancelled` */
function* paced(parts: Iterable<Part>, signal: AbortSignal): Generator<Part> {
  let count = 0;
  for (const part of parts) {
    if (count % EXTENTS_PER_LOOK === 0) throwIfAborted(signal);
    count += 1;
    yield part;
  }
}
