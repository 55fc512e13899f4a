/** A disk in memory with a map of changes. */

import type { ChangedExtent, TrackedSource } from '../../src/sources/changed/contract.ts';
import { digestOfChanges } from '../../src/sources/changed/digest.ts';
import { createMemoryDisk, type MemoryDisk } from './memory-disk.ts';

export interface TrackedDisk {
  disk: MemoryDisk;
  source: TrackedSource;
  /** The map that the source reports; a test may replace it. */
  changes: ChangedExtent[];
}

/** Kinds of parts: the letters of {@link trackedDisk}. */
const PARTS: Readonly<Record<string, Pick<ChangedExtent, 'kind' | 'isChanged'> & { fill: number }>> = {
  U: { kind: 'data', isChanged: false, fill: 0x55 },
  u: { kind: 'zeros', isChanged: false, fill: 0 },
  C: { kind: 'data', isChanged: true, fill: 0xcc },
  /** Zeros that the source does not know of. */
  Z: { kind: 'data', isChanged: true, fill: 0 },
  c: { kind: 'zeros', isChanged: true, fill: 0 },
};

/** @param letters one for each part: U, u (unchanged), C, Z, c (changed); small letters are reported zeros */
export function trackedDisk(letters: string, partBytes: number): TrackedDisk {
  const bytes = Buffer.alloc(letters.length * partBytes);
  const changes: ChangedExtent[] = [];
  for (const [index, letter] of [...letters].entries()) {
    const part = PARTS[letter];
    if (part === undefined) throw new RangeError(letter);
    const { fill, ...facts } = part;
    bytes.fill(fill, index * partBytes, (index + 1) * partBytes);
    // No two parts of data are the same.
    if (fill > 0) bytes.writeUInt32LE(index, index * partBytes);
    changes.push({ offset: index * partBytes, length: partBytes, ...facts });
  }
  const disk = createMemoryDisk(bytes, changes);
  const tracked: TrackedDisk = {
    disk,
    changes,
    source: {
      ...disk.source,
      changed: {
        async *extents() {
          yield* tracked.changes;
        },
      },
      async identity() {
        return { ...(await disk.source.identity()), changes: await digestOfChanges(tracked.source.changed?.extents(NO_ABORT) ?? empty()) };
      },
    },
  };
  return tracked;
}

const NO_ABORT = new AbortController().signal;

async function* empty(): AsyncGenerator<ChangedExtent> {}
