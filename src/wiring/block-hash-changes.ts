/** Block hashes as a source of changes: the disk is read whole, and compared with the hashes beside its base. */

import { createHash } from 'node:crypto';
import { formatBytes } from '../common/bytes.ts';
import { DiskliftError } from '../common/errors.ts';
import type { BaseImage } from '../receipts/contract.ts';
import type { DiskExport } from '../resource/disk-export.ts';
import type { RangedFile } from '../sources/changed/block-hashes/base-blocks.ts';
import { HASH_BYTES, HEADER_BYTES } from '../sources/changed/block-hashes/blocks-file.ts';
import { type BlockTrackedSource, trackBlocks } from '../sources/changed/block-hashes/track-blocks.ts';
import type { ChangedBlocks, ChangedExtent, TrackedSource } from '../sources/changed/contract.ts';
import type { DiskSource } from '../sources/contract.ts';
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
  const source = await trackBlocks(disk, { openBase, signal }).catch((error: unknown) => {
    throw ofBase(error, base);
  });
  return {
    source: base === undefined ? source : await ofHashes(source, base),
    async savePoints(files, place, saveSignal) {
      const chunks: Uint8Array[] = [];
      for await (const chunk of source.blocks().chunks()) chunks.push(chunk.slice());
      const bytes = Buffer.concat(chunks);
      const blocksPlace = `${place}.blocks`;
      await files.write(blocksPlace, bytes, saveSignal);
      return { blocks: { place: blocksPlace, sha256: createHash('sha256').update(bytes).digest('hex'), sizeBytes: bytes.length } };
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
  { location, points: { blocks } }: BaseImage,
  createFiles: () => Promise<DestinationFiles>,
  signal: AbortSignal,
): Promise<() => Promise<RangedFile>> {
  if (blocks === undefined) throw new DiskliftError('ChangesMissing', `the base ${location} has no block hashes beside it`);
  const files = await createFiles();
  const { place, sizeBytes, sha256 } = blocks;
  const name = files.location(place);
  const seen = await files.look(place, signal);
  if (seen === undefined) throw new DiskliftError('ChangesMissing', `the block hashes ${name} are not there`);
  if (seen.sizeBytes !== sizeBytes || sizeBytes > MAX_FILE_BYTES)
    throw new DiskliftError('ChangesRefused', `the block hashes ${name} have ${seen.sizeBytes} bytes, and the receipt says ${sizeBytes}`);
  const readRange: RangedFile['readRange'] = (start, end, readSignal) => files.readRange(place, { start, end }, readSignal);
  return async () => checkedFile({ name, sizeBytes, readRange }, sha256);
}

/**
 * A file whose bytes are compared with the receipt while they are read: first its header and its end, then all of it in
 * order, once for each scan.
 */
function checkedFile({ name, sizeBytes, readRange }: RangedFile, sha256: string): RangedFile {
  const tailStart = sizeBytes - HASH_BYTES;
  let tail: Uint8Array = new Uint8Array();
  let headHash = createHash('sha256');
  let hash = headHash;
  return {
    name,
    sizeBytes,
    async readRange(start, end, signal) {
      const bytes = await readRange(start, end, signal);
      if (start === 0) headHash = createHash('sha256').update(bytes);
      else if (start === tailStart) tail = bytes;
      else {
        if (start === HEADER_BYTES) hash = headHash.copy();
        hash.update(bytes);
        if (end === tailStart && hash.update(tail).digest('hex') !== sha256)
          throw new DiskliftError('ChangesRefused', `the block hashes ${name} are another file than the one of the receipt`);
      }
      return bytes;
    },
  };
}

/** Names the kind of the map, and reports hashes that cannot be used as a refusal. */
async function ofHashes(source: BlockTrackedSource, base: BaseImage): Promise<TrackedSource> {
  const { changed } = source;
  if (changed === undefined || changed.baseSizeBytes !== base.virtualSizeBytes) {
    await source.dispose();
    throw new DiskliftError(
      'ChangesRefused',
      `the block hashes of ${base.location} are of a disk of ${changed?.baseSizeBytes} bytes, and the base of ${base.virtualSizeBytes}`,
    );
  }
  async function* extents(signal: AbortSignal, disk?: DiskSource): AsyncGenerator<ChangedExtent> {
    try {
      yield* (changed as ChangedBlocks).extents(signal, disk);
    } catch (error) {
      throw ofBase(error, base);
    }
  }
  return { ...source, changed: { ...changed, extents }, changesFrom: 'BlockHashes' };
}

function ofBase(error: unknown, base: BaseImage | undefined): unknown {
  const isOfHashes = base !== undefined && error instanceof DiskliftError && error.code === 'FormatUnsupported';
  return isOfHashes ? new DiskliftError('ChangesRefused', error.message, error) : error;
}
