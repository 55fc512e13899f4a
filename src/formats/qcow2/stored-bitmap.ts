/**
 * The map of changes that a qcow2 image of a stopped VM stores itself. Unlike an NBD server, the image shows whose
 * bitmap it is: QEMU's servers also take a backing file's bitmap, which misses all writes to the image.
 */

import { DiskliftError } from '../../common/errors.ts';
import {
  type BitmapPlace,
  bytesPerBitmapCluster,
  MAX_BITMAP_DIRECTORY_BYTES,
  parseBitmapDirectory,
  parseBitmapTable,
  runsOfBits,
  type StoredBitmap,
  sizeOfBitmapTable,
} from '../../qcow2/read/dirty-bitmaps.ts';
import { parseHeader, qcow2ClusterSize } from '../../qcow2/read/parse-header.ts';
import type { ChangedExtent, TrackedSource } from '../../sources/changed/contract.ts';
import { digestOfChanges } from '../../sources/changed/digest.ts';
import type { DiskSource } from '../../sources/contract.ts';
import { openPath } from '../../sources/open-disk.ts';
import { closeHandle, fileSize, readExactly, readUpTo } from '../../sources/opened-file.ts';
import type { ReadOptions } from '../format.ts';

/**
 * Adds the bitmap `bitmapName` of the image to its disk. Each reading of the map opens the file again; the identity of
 * the disk shows whether it is still the same file.
 * @param disk the disk in the image at `imagePath`
 * @throws nothing before the map is read; then `ChangesRefused`, `FormatUnsupported`, `SourceReadError`, `Cancelled`
 */
export function withStoredBitmap(
  disk: DiskSource,
  { imagePath, bitmapName }: { imagePath: string; bitmapName: string },
  { libc, readLimit }: Pick<ReadOptions, 'libc' | 'readLimit'>,
): TrackedSource {
  const closed = new AbortController();
  const read = (signal: AbortSignal) => besideZeros(disk, dirtyRuns({ disk, imagePath, bitmapName, libc, readLimit }, signal), signal);
  // An image that records its changes is a disk, and not an incremental backup of one.
  const { notice: _, ...source } = disk;
  return {
    ...source,
    changed: { extents: (signal) => read(signal) },
    identity: async () => ({
      ...(await disk.identity()),
      bitmap: bitmapName,
      changes: await digestOfChanges(read(closed.signal)),
    }),
    async dispose() {
      closed.abort(new DiskliftError('Cancelled', 'closed'));
      await disk.dispose();
    },
  };
}

interface Reading extends Pick<ReadOptions, 'libc' | 'readLimit'> {
  disk: DiskSource;
  imagePath: string;
  bitmapName: string;
}

interface Run {
  end: number;
  isDirty: boolean;
}

/** Dirty and clean bytes of the whole disk, in order. */
async function* dirtyRuns({ disk, imagePath, bitmapName, libc, readLimit }: Reading, signal: AbortSignal): AsyncGenerator<Run> {
  const { name, sizeBytes: diskSizeBytes } = disk;
  const refuse = (why: string) => new DiskliftError('ChangesRefused', `${name}: ${why}; make a full image instead`);
  const handle = await openPath(imagePath);
  try {
    const target = { fd: handle.fd, name, readLimit };
    const file = { handle, name };
    const header = parseHeader(await readUpTo(file, 0, qcow2ClusterSize(await readUpTo(file, 0, 24), name)), name);
    const { bitmaps: directory } = header;
    if (directory === undefined) throw refuse(missing(bitmapName, []));
    if (directory.sizeBytes > MAX_BITMAP_DIRECTORY_BYTES) throw refuse(`its list of bitmaps has ${directory.sizeBytes} bytes`);
    const entries = parseBitmapDirectory(await readUpTo(file, directory.offset, directory.sizeBytes), directory.count, name);
    const bitmap = entries.find((entry) => entry.name === bitmapName);
    if (bitmap === undefined) throw refuse(missing(bitmapName, entries));
    if (bitmap.isInUse) throw refuse(`its bitmap ${bitmapName} is in use: a VM runs, or did not end in order`);
    if (!bitmap.isRecording) throw refuse(`its bitmap ${bitmapName} does not record writes (it is disabled)`);
    const place: BitmapPlace = { bitmap, header, diskSizeBytes, fileSizeBytes: await fileSize(file, libc) };
    const table = await readUpTo(file, bitmap.tableOffset, sizeOfBitmapTable(place, refuse));
    const perClusterBytes = bytesPerBitmapCluster(place);
    const bits = Buffer.allocUnsafe(header.clusterSizeBytes);
    for (const [index, cluster] of parseBitmapTable(table, place, refuse).entries()) {
      const clusterEnd = Math.min((index + 1) * perClusterBytes, diskSizeBytes);
      if (typeof cluster === 'string') {
        yield { end: clusterEnd, isDirty: cluster === 'dirty' };
        continue;
      }
      await readExactly(target, bits, cluster, signal);
      let at = index * perClusterBytes;
      for (const { bitCount, isDirty } of runsOfBits(bits)) {
        at = Math.min(at + bitCount * bitmap.granularityBytes, clusterEnd);
        yield { end: at, isDirty };
        if (at === clusterEnd) break;
      }
    }
  } finally {
    await closeHandle(handle);
  }
}

function missing(bitmapName: string, entries: readonly StoredBitmap[]): string {
  const names = entries.length === 0 ? 'no bitmap' : `only ${entries.map(({ name }) => name).join(', ')}`;
  return `the image itself has no valid bitmap ${bitmapName}, and ${names}; the bitmap of a backing file misses what was written since`;
}

/** The runs, divided where zeros and data of the disk meet. */
async function* besideZeros(disk: DiskSource, runs: AsyncGenerator<Run>, signal: AbortSignal): AsyncGenerator<ChangedExtent> {
  let run: Run = { end: 0, isDirty: false };
  try {
    for await (const { offset, length, kind } of disk.extents(signal)) {
      for (let at = offset; at < offset + length; ) {
        while (run.end <= at) run = (await runs.next()).value as Run;
        const end = Math.min(run.end, offset + length);
        yield { offset: at, length: end - at, kind, isChanged: run.isDirty };
        at = end;
      }
    }
  } finally {
    await runs.return(undefined);
  }
}
