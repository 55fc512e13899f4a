/** Which stretches of an image lie in files as they are. */

import type { Layout } from '../qcow2/write/layout.ts';
import type { DiskSource } from '../sources/contract.ts';
import type { PlacedRun } from './contract.ts';

export interface PlacedRunsInput {
  layout: Layout;
  places: NonNullable<DiskSource['fileExtents']>;
}

/**
 * Clusters that follow each other in the image may lie apart on the disk and yet follow each other in a file, as when that is a qcow2
 * image itself: they are one run.
 */
export function* placedRuns({ layout, places }: PlacedRunsInput, start: number, end: number): Generator<PlacedRun> {
  let last: PlacedRun | undefined;
  for (const run of layout.runs(start, end)) {
    if (run.kind !== 'data') continue;
    for (const { offset, length, fd, fileOffset } of places(run.sourceOffset, run.length)) {
      const next = { imageOffset: run.imageOffset + (offset - run.sourceOffset), length, fd, fileOffset };
      if (last !== undefined && follows(last, next)) {
        last.length += length;
        continue;
      }
      if (last !== undefined) yield last;
      last = next;
    }
  }
  if (last !== undefined) yield last;
}

function follows(last: PlacedRun, next: PlacedRun): boolean {
  return next.fd === last.fd && next.imageOffset === last.imageOffset + last.length && next.fileOffset === last.fileOffset + last.length;
}
