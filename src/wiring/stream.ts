/** Composes the commands `stream` and `measure`: a source, its virtual image, and standard output as a target. */

import { DiskliftError } from '../common/errors.ts';
import type { DiskFormat } from '../formats/formats.ts';
import { type NamedDisk, openNamedDisk } from '../formats/open-named-disk.ts';
import { type ImageOptions, type PreparedImage, type PrepareOptions, prepareImage } from '../image/prepare-image.ts';
import type { BlocksFile, BlockTrackedSource } from '../sources/changed/block-hashes/track-blocks.ts';
import type { TrackedSource } from '../sources/changed/contract.ts';
import type { InUse } from '../sources/disk-in-use.ts';
import { isNbdUri, nbdDiskName, parseNbdUri } from '../sources/nbd/nbd-uri.ts';
import { isRemoteImage } from '../sources/remote/is-remote-image.ts';
import type { ExportTarget } from '../targets/contract.ts';
import { createStdoutTarget } from '../targets/stdout/stdout-target.ts';
import type { CommandContext } from './context.ts';

export const STDOUT_FD = 1;

/** Standard output as a target. */
export function composeStdoutTarget({ libc, clock }: Pick<CommandContext, 'libc' | 'clock'>): ExportTarget {
  return createStdoutTarget({ fd: STDOUT_FD, libc, clock });
}

export interface DiskRequest extends ImageOptions, Pick<PrepareOptions, 'onOpen' | 'onScanned'> {
  /** A path, the URI of an NBD server's disk, or the URL of an image on an HTTP or S3 server. */
  path: string;
  /** The same as in {@link NamedDisk}. */
  format?: DiskFormat | undefined;
  beneath?: string | undefined;
  caFile?: string | undefined;
  /** The dirty bitmap of an NBD server or of a qcow2 image, for an image with a backing file. */
  bitmap?: string | undefined;
  /** A file with the block hashes of the base, for an image with a backing file. */
  blocksFile?: string | undefined;
  /** Whether `blocks()` of the image will be called. */
  keepBlocks?: boolean | undefined;
  /** 'allow' when left out. */
  inUse?: InUse | undefined;
}

export interface ComposedImage extends PreparedImage {
  /**
   * The block hashes of the disk; they belong to the image after its seal.
   * @throws RangeError for an image that was composed without `keepBlocks`
   */
  blocks(): BlocksFile;
}

/** The virtual image of the disk that the user has named. @throws DiskliftError as {@link prepareImage} */
export async function composeImage(request: DiskRequest, context: CommandContext): Promise<ComposedImage> {
  const { path, format, beneath, caFile, bitmap, blocksFile, keepBlocks, inUse, ...options } = request;
  const { clock, signal, warn } = context;
  let tracked: BlockTrackedSource | undefined;
  const prepared = await prepareImage({
    ...options,
    signal,
    clock,
    warn,
    async openSource() {
      const open = () => openSource({ path, format, beneath, caFile }, { ...context, inUse, bitmap });
      if (blocksFile === undefined && keepBlocks !== true) return open();
      // Loaded when they are needed: most commands start sooner without them.
      const [{ trackBlocks }, { openBlocksFile }] = await loadBlockHashes();
      const openBase = blocksFile === undefined ? undefined : () => openBlocksFile(blocksFile);
      tracked = await trackBlocks(await open(), { openBase, signal });
      return tracked;
    },
  });
  return {
    ...prepared,
    blocks() {
      if (tracked === undefined) throw new RangeError('the image was composed without block hashes');
      return tracked.blocks();
    },
  };
}

const loadBlockHashes = () =>
  Promise.all([import('../sources/changed/block-hashes/track-blocks.ts'), import('../sources/changed/block-hashes/local-file.ts')]);

async function openSource(
  { path, format, beneath, caFile }: NamedDisk & Pick<DiskRequest, 'caFile'>,
  options: CommandContext & Pick<DiskRequest, 'inUse' | 'bitmap'>,
): Promise<TrackedSource> {
  if (isRemoteImage(path)) return openRemoteDisk({ path, format, beneath, caFile }, options);
  if (!isNbdUri(path)) {
    const disk = await openNamedDisk({ path, format, beneath }, options);
    const { bitmap } = options;
    if (bitmap === undefined) return disk;
    const { withStoredBitmap } = await import('../formats/qcow2/stored-bitmap.ts');
    return withStoredBitmap(disk, { imagePath: path, bitmapName: bitmap }, options);
  }
  const address = parseNbdUri(path);
  if (options.inUse === 'fail' || options.inUse === 'wait')
    throw new DiskliftError(
      'InUseUnknown',
      `${nbdDiskName(address)}: an NBD server does not tell whether its disk is in use; stop its VM, then read it with --in-use auto`,
    );
  // Loaded when it is needed: most commands start sooner without it.
  const { openNbdDisk } = await import('../sources/nbd/nbd-disk.ts');
  return openNbdDisk(address, options);
}

async function openRemoteDisk(
  { path, format = 'raw', beneath, caFile }: NamedDisk & Pick<DiskRequest, 'caFile'>,
  options: CommandContext & Pick<DiskRequest, 'inUse'>,
): Promise<TrackedSource> {
  if (format !== 'raw' && format !== 'qcow2')
    throw new DiskliftError(
      'InvalidRequest',
      `an image on a server is read in the formats qcow2 and raw, not ${format}; download it first`,
    );
  if (options.inUse === 'fail' || options.inUse === 'wait')
    throw new DiskliftError('InUseUnknown', 'a server does not tell whether an image is being written to; read it with --in-use auto');
  const [{ openChainDisk }, { nameImage }] = await Promise.all([import('../formats/chain/chain-disk.ts'), import('./named-image.ts')]);
  return openChainDisk(await nameImage({ image: path, beneath, caFile }, options), format, options.signal);
}
