/** A map of changes that also calls all zeros of the disk changed. */

import type { ChangedBlocks, ChangedExtent, TrackedSource } from './contract.ts';

/**
 * A disk that was shrunk and grown back has zeros where its base has data, and a dirty bitmap calls them unchanged.
 * With this map they become explicit zeros of the delta. They are not read, and each cluster takes one table entry.
 * @param source with a map that reports zeros
 */
export function withAllZeros(source: TrackedSource): TrackedSource {
  const { changed } = source;
  if (changed === undefined) throw new RangeError(`${source.name} has no map of changes`);
  const tracked: ChangedBlocks = { extents: (signal, disk) => zerosAsChanges(changed.extents(signal, disk)) };
  return { ...source, changed: tracked };
}

async function* zerosAsChanges(extents: AsyncIterable<ChangedExtent>): AsyncGenerator<ChangedExtent> {
  for await (const extent of extents) yield extent.kind === 'zeros' ? { ...extent, isChanged: true } : extent;
}
