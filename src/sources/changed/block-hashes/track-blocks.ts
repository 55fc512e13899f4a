/**
 * Block hashes as a source of changes, where storage keeps no record of them. The whole disk is read and hashed; what
 * differs from the hashes of the base has changed. The hashes of the disk as it is now remain, for the next delta.
 *
 * A block is hashed before the scan reads it again, and what has not changed is never read again. The hashes therefore
 * hold only for a disk that did not change meanwhile. The identity of a source shows that, or `confirm` reads the whole
 * disk once more. Callers must not turn that comparison off (verify Never, zero detection by extents) for hashes that
 * a later delta relies on.
 */

import { abortable } from '../../../common/abortable.ts';
import type { DiskSource } from '../../contract.ts';
import { delegateDisk } from '../../delegate-disk.ts';
import type { ChangedBlocks, TrackedSource } from '../contract.ts';
import { type BaseBlocks, openBaseBlocks, type RangedFile } from './base-blocks.ts';
import { type BlockHashes, createBlockHashes } from './block-hashes.ts';
import { createBlockRecorder } from './block-recorder.ts';
import { countBlocksOf, sizeOfBlocksFile } from './blocks-file.ts';
import { compareAgain, compareWithBase } from './compare-blocks.ts';
import { type HashedBlocks, hashDisk } from './hash-disk.ts';

/** The new file of block hashes. */
export interface BlocksFile {
  sizeBytes: number;
  chunks(): AsyncIterable<Uint8Array>;
}

export interface BlockTrackedSource extends TrackedSource {
  /**
   * The hashes of the disk. They belong to an image only after the seal of that image.
   * @throws RangeError before the scan has ended
   */
  blocks(): BlocksFile;
}

export interface TrackBlocksOptions {
  /** Opens the file of block hashes of the base. When left out, the source only records the hashes of its scan. */
  openBase?: (() => Promise<RangedFile>) | undefined;
  /** Aborts the opening only. */
  signal: AbortSignal;
}

/**
 * @param source the returned source owns it, and a failure closes it. Its members are called, never copied
 * @throws DiskliftError `ChangesRefused` for a file of hashes that cannot be used; `Cancelled`; errors of the file
 */
export async function trackBlocks(source: TrackedSource, { openBase, signal }: TrackBlocksOptions): Promise<BlockTrackedSource> {
  let file: RangedFile | undefined;
  const dispose = async () => void (await Promise.all([source.dispose(), file?.close?.()]));
  try {
    file = openBase === undefined ? undefined : await openUnlessAborted(openBase(), signal);
    return trackedSource(source, { base: file === undefined ? undefined : await openBaseBlocks(file, signal), dispose });
  } catch (error) {
    await dispose();
    throw error;
  }
}

/** A file that hanging storage opens after the abort is closed at once. */
async function openUnlessAborted(opening: Promise<RangedFile>, signal: AbortSignal): Promise<RangedFile> {
  try {
    return await abortable(opening, signal);
  } catch (error) {
    // A failure to open after the abort concerns nobody.
    opening.then((file) => file.close?.()).catch(() => {});
    throw error;
  }
}

interface Parts {
  base: BaseBlocks | undefined;
  dispose(): Promise<void>;
}

function trackedSource(source: TrackedSource, { base, dispose }: Parts): BlockTrackedSource {
  const { name, sizeBytes, changesFrom } = source;
  const hashes = createBlockHashes();
  let isComplete = false;
  const record: Recording = {
    source,
    hashes,
    begin() {
      isComplete = false;
      hashes.clear();
    },
    finish() {
      isComplete = true;
    },
  };
  const changed = base === undefined ? recordedChanges(record) : comparedChanges(record, base);
  return {
    ...delegateDisk(source),
    ...(changed === undefined
      ? { recorder: recorderOf(record) }
      : { changed, changesFrom: base === undefined ? changesFrom : 'BlockHashes' }),
    // Another base makes another image of the same disk.
    identity: async () => ({ ...(await source.identity()), ...(base === undefined ? {} : { baseBlocks: base.digest }) }),
    dispose,
    blocks() {
      if (!isComplete) throw new RangeError(`${name}: its blocks are not hashed yet`);
      const blockCount = countBlocksOf(sizeBytes);
      return { sizeBytes: sizeOfBlocksFile(blockCount), chunks: () => hashes.file(sizeBytes, blockCount) };
    },
  };
}

interface Recording {
  source: TrackedSource;
  hashes: BlockHashes;
  begin(): void;
  /** All blocks are hashed. */
  finish(): void;
}

function recorderOf(record: Recording) {
  const recorder = createBlockRecorder(record.hashes);
  return {
    begin() {
      record.begin();
      recorder.begin();
    },
    add: recorder.add,
    async finish() {
      await recorder.finish();
      record.finish();
    },
  };
}

async function* hashAndRecord({ hashes, begin }: Recording, disk: DiskSource, signal: AbortSignal): AsyncGenerator<HashedBlocks> {
  begin();
  for await (const run of hashDisk(disk, signal)) {
    if (run.hash !== undefined) hashes.set(run.firstBlock, run.hash);
    yield run;
  }
}

/** The source's own map of changes; the whole disk is hashed in front of it. Undefined where the source has none. */
function recordedChanges(record: Recording): ChangedBlocks | undefined {
  const { changed } = record.source;
  if (changed === undefined) return undefined;
  return {
    ...(changed.baseSizeBytes === undefined ? {} : { baseSizeBytes: changed.baseSizeBytes }),
    async *extents(signal, disk = record.source) {
      for await (const _ of hashAndRecord(record, disk, signal));
      record.finish();
      yield* changed.extents(signal, disk);
    },
    async confirm(...reading) {
      await changed.confirm?.(...reading);
      await compareAgain(record.hashes, ...reading);
    },
  };
}

function comparedChanges(record: Recording, base: BaseBlocks): ChangedBlocks {
  const { sizeBytes } = record.source;
  return {
    baseSizeBytes: base.diskSizeBytes,
    async *extents(signal, disk = record.source) {
      yield* compareWithBase(hashAndRecord(record, disk, signal), { base, sizeBytes }, signal);
      record.finish();
    },
    confirm: (...reading) => compareAgain(record.hashes, ...reading),
  };
}
