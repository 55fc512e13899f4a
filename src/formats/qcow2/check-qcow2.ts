/** Whether a qcow2 image has all its clusters, compressed ones and subclusters too. */

import zlib from 'node:zlib';
import type { ForeignImage } from '../../qcow2/read/foreign-image.ts';
import { createMetadataPlaces } from '../../qcow2/read/metadata-places.ts';
import type { Qcow2Header } from '../../qcow2/read/parse-header.ts';
import { createEndCheck, type EndCheck } from '../../qcow2/read/truncation-check.ts';
import type { OpenedFile } from '../../sources/opened-file.ts';
import { readExactly } from '../../sources/opened-file.ts';
import { cutShort } from '../block-table.ts';
import type { FileToCheck } from '../check-tables.ts';
import { readHeader } from './read-header.ts';
import { readL1Table } from './read-l1-table.ts';
import { readTables } from './read-tables.ts';

/**
 * @returns whether the image has explicit zero clusters
 * @throws DiskliftError `SourceReadError`, also for a truncated image; `FormatUnsupported`, `SourceChanged`, `Cancelled`
 */
export async function checkQcow2(
  opened: OpenedFile,
  file: FileToCheck,
  dataFileSizeBytes?: number,
): Promise<Pick<EndCheck, 'hasExplicitZeros'>> {
  const { target, signal, name, fileSizeBytes } = file;
  const image: ForeignImage = { name, header: await readHeader(opened), fileSizeBytes, dataFileSizeBytes };
  const offsets = await readL1Table(target, image, signal);
  // Refuses tables that stand for two parts of the disk, so that their number is bounded by the file's size.
  createMetadataPlaces(image, offsets);
  const check = createEndCheck(image);
  for await (const tables of readTables(target, { offsets, tableSizeBytes: image.header.clusterSizeBytes, signal }))
    for (const { bytes, ...place } of tables) check.addTable(bytes, place);
  for (const offset of check.tails) {
    const bytes = Buffer.alloc(fileSizeBytes - offset);
    await readExactly(target, bytes, offset, signal);
    if (!(await holdsCluster(bytes, image.header))) throw cutShort(name, `its compressed cluster at byte ${offset} goes on`, fileSizeBytes);
  }
  // An image with a raw data file cannot have a backing file, so its zero clusters have no special meaning.
  return { hasExplicitZeros: check.hasExplicitZeros && image.header.dataFile?.isRaw !== true };
}

/**
 * QEMU takes zeros for what a file lacks of its last sector, and a deflate stream has no checksum that would tell.
 * @param bytes of a compressed cluster to the file's end
 */
function holdsCluster(bytes: Uint8Array, { compression, clusterSizeBytes }: Qcow2Header): Promise<boolean> {
  const decompressor =
    compression === 'zstd' ? zlib.createZstdDecompress() : zlib.createInflateRaw({ finishFlush: zlib.constants.Z_SYNC_FLUSH });
  let sizeBytes = 0;
  return new Promise((resolve) => {
    const settle = () => {
      decompressor.destroy();
      resolve(sizeBytes >= clusterSizeBytes);
    };
    decompressor.on('data', (chunk: Uint8Array) => {
      sizeBytes += chunk.length;
      if (sizeBytes >= clusterSizeBytes) settle();
    });
    decompressor.on('end', settle);
    decompressor.on('error', settle);
    decompressor.end(bytes);
  });
}
