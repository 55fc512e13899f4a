/** A disk that passes every call on to another one, for disks that differ from it in some members. */

import type { DiskSource } from './contract.ts';

/** @param source may be a class instance: its members are called, never copied */
export function delegateDisk(source: DiskSource): DiskSource {
  const { name, sizeBytes, format, notice, identityMissesWrites } = source;
  return {
    name,
    sizeBytes,
    ...(format === undefined ? {} : { format }),
    ...(notice === undefined ? {} : { notice }),
    ...(identityMissesWrites === undefined ? {} : { identityMissesWrites }),
    extents: (signal, holes) => source.extents(signal, holes),
    read: (buffer, offset, signal) => source.read(buffer, offset, signal),
    ...(source.showsData === undefined ? {} : { showsData: (offset) => source.showsData?.(offset) ?? false }),
    ...(source.fileExtents === undefined ? {} : { fileExtents: (offset, length) => source.fileExtents?.(offset, length) ?? [] }),
    identity: () => source.identity(),
    ...(source.openAgain === undefined ? {} : { openAgain: async (signal) => (await source.openAgain?.(signal)) ?? source }),
    dispose: () => source.dispose(),
  };
}
