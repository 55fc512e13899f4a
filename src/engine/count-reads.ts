/** A disk whose bytes are counted as they are read. */

import type { DiskSource } from '../sources/contract.ts';
import type { DiskState } from './observer.ts';

/**
 * Counts what was read in full. Has no `places`, because bytes that the kernel moves by itself cannot be counted.
 * @param source may be of a class: its members are called, never copied
 */
export function countReads(source: DiskSource, state: Pick<DiskState, 'readBytes'>): DiskSource {
  const { name, sizeBytes, format, identityMissesWrites } = source;
  return {
    name,
    sizeBytes,
    ...(format === undefined ? {} : { format }),
    ...(identityMissesWrites === undefined ? {} : { identityMissesWrites }),
    extents: (signal, holes) => source.extents(signal, holes),
    async read(buffer, offset, signal) {
      await source.read(buffer, offset, signal);
      state.readBytes += buffer.length;
    },
    ...(source.showsData === undefined ? {} : { showsData: (offset: number) => source.showsData?.(offset) ?? false }),
    identity: () => source.identity(),
    ...(source.openAgain === undefined
      ? {}
      : { openAgain: async (signal) => countReads((await source.openAgain?.(signal)) ?? source, state) }),
    dispose: () => source.dispose(),
  };
}
