/** Counts what is read from a disk. */

import { abortable } from '../common/abortable.ts';
import type { ChangedBlocks, TrackedSource } from '../sources/changed/contract.ts';
import type { DiskSource } from '../sources/contract.ts';
import type { DiskState } from './observer.ts';

/**
 * Wraps a disk: counts the bytes of successful reads, and abandons calls that hang when the export must end. Has no
 * `fileExtents`, because bytes that the kernel moves by itself cannot be counted.
 * @param source may be a class instance: its members are called, never copied
 */
export function countReads(source: TrackedSource, state: Pick<DiskState, 'readBytes'>): TrackedSource {
  const { name, sizeBytes, format, notice, identityMissesWrites, changed, changesFrom, recorder } = source;
  const counted: TrackedSource = {
    name,
    sizeBytes,
    ...(format === undefined ? {} : { format }),
    ...(notice === undefined ? {} : { notice }),
    ...(identityMissesWrites === undefined ? {} : { identityMissesWrites }),
    ...(changed === undefined ? {} : { changed: countedChanges(changed, () => counted) }),
    ...(recorder === undefined ? {} : { recorder }),
    ...(changesFrom === undefined ? {} : { changesFrom }),
    async *extents(signal, holes) {
      const extents = source.extents(signal, holes)[Symbol.asyncIterator]();
      try {
        for (;;) {
          const { done, value } = await abortable(extents.next(), signal);
          if (done) return;
          yield value;
        }
      } finally {
        // This settles only after the pending call, which may hang.
        extents.return?.().catch(() => {});
      }
    },
    async read(buffer, offset, signal) {
      await abortable(source.read(buffer, offset, signal), signal);
      state.readBytes += buffer.length;
    },
    ...(source.showsData === undefined ? {} : { showsData: (offset: number) => source.showsData?.(offset) ?? false }),
    identity: () => source.identity(),
    ...(source.openAgain === undefined
      ? {}
      : { openAgain: async (signal) => countReads((await source.openAgain?.(signal)) ?? source, state) }),
    dispose: () => source.dispose(),
  };
  return counted;
}

/** A map that is made by reading reads the counted disk. */
function countedChanges(changed: ChangedBlocks, disk: () => DiskSource): ChangedBlocks {
  const { baseSizeBytes } = changed;
  return {
    ...(baseSizeBytes === undefined ? {} : { baseSizeBytes }),
    extents: (signal) => changed.extents(signal, disk()),
    ...(changed.confirm === undefined ? {} : { confirm: async (...reading) => changed.confirm?.(...reading) }),
  };
}
