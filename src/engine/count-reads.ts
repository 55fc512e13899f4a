/** A disk whose bytes are counted as they are read. */

import type { DiskSource } from '../sources/contract.ts';
import type { DiskState } from './observer.ts';

/** Counts what was read in full; without `places`, since bytes that the kernel moves by itself are seen by nobody. */
export function countReads({ places: _places, ...source }: DiskSource, state: Pick<DiskState, 'readBytes'>): DiskSource {
  return {
    ...source,
    async read(buffer, offset, signal) {
      await source.read(buffer, offset, signal);
      state.readBytes += buffer.length;
    },
  };
}
