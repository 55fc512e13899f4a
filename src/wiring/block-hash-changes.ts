/** Block hashes as a source of changes: the disk is read whole, and compared with the hashes beside its base. */

import { createHash } from 'node:crypto';
import { formatBytes } from '../common/bytes.ts';
import { DiskliftError } from '../common/errors.ts';
import type { BaseImage } from '../receipts/contract.ts';
import { blocksPlace } from '../receipts/file-places.ts';
import type { DiskExport } from '../resource/disk-export.ts';
import type { RangedFile } from '../sources/changed/block-hashes/base-blocks.ts';
import { trackBlocks } from '../sources/changed/block-hashes/track-blocks.ts';
import type { TrackedSource } from '../sources/changed/contract.ts';
import { type DestinationFiles, MAX_FILE_BYTES } from '../targets/contract.ts';
import type { ChangesQuestion, ChangesRow, OpenedChanges } from './changes-row.ts';

export const BLOCK_HASHES: ChangesRow = { problem, open };

/** Largest disk whose hashes fit into one file beside an image: 2 TiB. */
const MAX_DISK_BYTES = 2 ** 41;

function problem({ spec: { source, image } }: DiskExport): string | undefined {
  if (image.zeroDetection === 'Extents') return 'spec.image.zeroDetection: block hashes need Content, because they read the whole disk';
  if (source.verify === 'Never') return 'spec.source.verify: block hashes need Auto or Always, or a change during the export would be lost';
  return undefined;
}

async function open({ open: openDisk, base, createFiles }: ChangesQuestion, signal: AbortSignal): Promise<OpenedChanges> {
  // The file is looked at first: a base without it costs no opening of the disk.
  const openBase = base === undefined ? undefined : await findBlocks(base, createFiles, signal);
  const disk = await openDisk(signal);
  if (disk.sizeBytes > MAX_DISK_BYTES) return withoutHashes(disk, base);
  const source = await trackBlocks(disk, { openBase, signal });
  return {
    source,
    async savePoints(files, place, saveSignal) {
      const chunks: Uint8Array[] = [];
      for await (const chunk of source.blocks().chunks()) chunks.push(chunk.slice());
      const bytes = Buffer.concat(chunks);
      const ownPlace = blocksPlace(place);
      await files.write(ownPlace, bytes, saveSignal);
      return { blocks: { place: ownPlace, sha256: createHash('sha256').update(bytes).digest('hex'), sizeBytes: bytes.length } };
    },
  };
}

async function withoutHashes(source: TrackedSource, base: BaseImage | undefined): Promise<OpenedChanges> {
  if (base === undefined) return { source, savePoints: async () => ({}) };
  await source.dispose();
  throw new DiskliftError(
    'ChangesRefused',
    `${source.name}: has ${formatBytes(source.sizeBytes)}; block hashes are for disks of at most ${formatBytes(MAX_DISK_BYTES)}`,
  );
}

/** @throws DiskliftError `ChangesMissing`, `ChangesRefused`; the codes of {@link DestinationFiles} */
async function findBlocks(
  { place: basePlace, location, points: { blocks } }: BaseImage,
  createFiles: () => Promise<DestinationFiles>,
  signal: AbortSignal,
): Promise<() => Promise<RangedFile>> {
  if (blocks === undefined) throw new DiskliftError('ChangesMissing', `the base ${location} has no block hashes beside it`);
  const files = await createFiles();
  const { place, sizeBytes, sha256 } = blocks;
  const name = blocksPlace(location);
  if (place !== blocksPlace(basePlace))
    throw new DiskliftError('ChangesRefused', `the receipt of ${location} names other block hashes than ${name}`);
  const seen = await files.look(place, signal);
  if (seen === undefined) throw new DiskliftError('ChangesMissing', `the block hashes ${name} are not there`);
  if (seen.sizeBytes !== sizeBytes || sizeBytes > MAX_FILE_BYTES)
    throw new DiskliftError('ChangesRefused', `the block hashes ${name} have ${seen.sizeBytes} bytes, and the receipt says ${sizeBytes}`);
  return async () => ({
    name,
    sizeBytes,
    sha256,
    readRange: (start, end, readSignal) => files.readRange(place, { start, end }, readSignal),
  });
}
