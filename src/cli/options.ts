/** Options that several commands share. The flags of images are those of qcow2-to-stdout.py, and `--zero-detection`. */

import path from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { parseBytes } from '../common/bytes.ts';
import { DiskliftError } from '../common/errors.ts';
import { DISK_FORMATS, type DiskFormat } from '../formats/formats.ts';
import type { ImageLayout } from '../image/image-layouts.ts';
import type { ZeroDetection } from '../image/scan.ts';
import { DEFAULT_CLUSTER_SIZE_BYTES, DEFAULT_REFCOUNT_BITS } from '../qcow2/constants.ts';
import { BACKING_FORMATS, type BackingFile, type Qcow2Options } from '../qcow2/write/options.ts';
import { isNbdUri } from '../sources/nbd/nbd-uri.ts';
import { isRemoteImage } from '../sources/remote/is-remote-image.ts';

export interface ImageFlags {
  /** Raw when left out, with a warning when the file's name or its bytes contradict that. */
  format?: DiskFormat;
  beneath?: string;
  caFile?: string;
  clusterSize: number;
  refcountBits: number;
  qcow2Version: number;
  dataFile: boolean;
  rawDataFile: boolean;
  dataFileName?: string;
  verbatim: boolean;
  zeroDetection: ZeroDetection;
  changed?: string;
  base?: string;
  baseFormat: BackingFile['format'];
  baseSize?: number;
}

function size(text: string): number {
  const bytes = parseBytes(text, 'qemu');
  if (bytes === undefined) throw new InvalidArgumentError('It is not a size such as 65536, 64K, 64Ki or 2M.');
  return bytes;
}

function wholeNumber(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('It is not a whole number.');
  return Number(text);
}

export function addProgressOption(command: Command): Command {
  return command.addOption(
    new Option('--progress <how>', 'auto: bars when standard error is a terminal; json: one line of JSON a second')
      .choices(['auto', 'json', 'none'])
      .default('auto'),
  );
}

/** Parser of an option that may be repeated. */
export const collect = (value: string, earlier: string[]): string[] => [...earlier, value];

export function addImageOptions(command: Command): Command {
  return command
    .argument(
      '<image>',
      'the disk: a regular file, a block device, nbd://HOST[:PORT]/EXPORT, nbd+unix:///EXPORT?socket=PATH, http(s)://HOST/PATH or s3://BUCKET/KEY',
    )
    .addOption(new Option('-f, --format <format>', 'format of the disk; raw when left out').choices(DISK_FORMATS))
    .option('--beneath <place>', "where files that the image names may lie, however deep; the image's own directory when left out")
    .option('--ca-file <file>', "https and s3: authorities in PEM that are trusted instead of the system's")
    .option('--verbatim', "the file's own bytes, whatever its format (-f, -c, -r, -v mean nothing then)", false)
    .option('-c, --cluster-size <size>', 'qcow2 cluster size, a power of two from 512 to 2M', size, DEFAULT_CLUSTER_SIZE_BYTES)
    .option('-r, --refcount-bits <bits>', 'width of the refcounts: 1, 2, 4, 8, 16, 32 or 64', wholeNumber, DEFAULT_REFCOUNT_BITS)
    .option('-v, --qcow2-version <version>', 'qcow2 version: 2 or 3', wholeNumber, 3)
    .option('-d, --data-file', 'write metadata only; the image names the disk as its external data file', false)
    .option('-R, --raw-data-file', 'as -d, and every cluster is mapped so that the data file stays a valid raw image', false)
    .option('--data-file-name <name>', 'with -d or -R: the name that the image stores for the disk; its absolute path when left out')
    .option(
      '--changed <map>',
      'only what has changed since the base: qemu:dirty-bitmap:NAME, which the NBD server reports with the disk or the qcow2 file stores, or blocks:FILE, the block hashes of the base',
    )
    .option('--base <name>', 'with --changed: the file name of the base, relative to the directory of the image')
    .addOption(new Option('--base-format <format>', 'with --base: the format of the base').choices(BACKING_FORMATS).default('qcow2'))
    .option('--base-size <size>', "with --base: size of the base's disk, needed with a dirty bitmap where the disk has grown since", size)
    .addOption(
      new Option(
        '--zero-detection <how>',
        'content: read the data, drop clusters of zeros; extents: trust holes only, one read instead of two',
      )
        .choices(['content', 'extents'])
        .default('content'),
    );
}

/** @returns the layout of the image, and the format with which the file is opened */
export function layoutOf({ verbatim, format }: ImageFlags): { layout: ImageLayout; format: DiskFormat | undefined } {
  return verbatim ? { layout: 'Verbatim', format: 'raw' } : { layout: 'Converted', format };
}

const DIRTY_BITMAP = /^qemu:dirty-bitmap:(.+)$/s;

const BLOCK_HASHES = /^blocks:(.+)$/s;

/** QEMU has no longer names of bitmaps. */
const MAX_BITMAP_NAME_BYTES = 1023;

export interface BaseFlags {
  backingFile: BackingFile | undefined;
  baseSizeBytes: number | undefined;
  /** The name of the bitmap that shows what has changed. */
  bitmap: string | undefined;
  /** The file with the block hashes of the base. */
  blocksFile: string | undefined;
}

const NO_BASE: BaseFlags = { backingFile: undefined, baseSizeBytes: undefined, bitmap: undefined, blocksFile: undefined };

/** @throws DiskliftError `InvalidRequest` */
export function baseOf(imagePath: string, { changed, base, baseFormat, baseSize, verbatim, ...flags }: ImageFlags): BaseFlags {
  const refuse = (why: string) => new DiskliftError('InvalidRequest', why);
  if (changed === undefined && base === undefined && baseSize === undefined) return NO_BASE;
  if (changed === undefined) throw refuse('--base and --base-size need --changed, which names the map of what has changed since the base');
  if (base === undefined) throw refuse('--changed needs --base, the name of the image that holds what has not changed');
  const [, bitmap] = DIRTY_BITMAP.exec(changed) ?? [];
  const [, blocksFile] = BLOCK_HASHES.exec(changed) ?? [];
  if (bitmap === undefined && blocksFile === undefined)
    throw refuse(`--changed ${changed}: qemu:dirty-bitmap:NAME or blocks:FILE is expected`);
  if (bitmap !== undefined && Buffer.byteLength(bitmap) > MAX_BITMAP_NAME_BYTES)
    throw refuse(`--changed: the bitmap's name is longer than ${MAX_BITMAP_NAME_BYTES} bytes`);
  if (bitmap !== undefined && !isNbdUri(imagePath) && (flags.format !== 'qcow2' || isRemoteImage(imagePath)))
    throw refuse(
      '--changed with a dirty bitmap needs a disk on an NBD server (nbd:// or nbd+unix://), or a file with -f qcow2, which has the bitmap',
    );
  if (verbatim) throw refuse('--verbatim sends a file as it is, and --changed makes an image of what has changed; use one');
  if (flags.dataFile || flags.rawDataFile) throw refuse('an image on a base (--base) cannot have an external data file (-d, -R)');
  return { backingFile: { name: base, format: baseFormat }, baseSizeBytes: baseSize, bitmap, blocksFile };
}

/** @throws DiskliftError `InvalidRequest` */
export function qcow2OptionsOf(imagePath: string, flags: ImageFlags): Qcow2Options {
  const { format = 'raw', dataFileName } = flags;
  const wantsDataFile = flags.dataFile || flags.rawDataFile;
  if (wantsDataFile && flags.verbatim)
    throw new DiskliftError(
      'InvalidRequest',
      '--verbatim sends the file as it is, and an external data file (-d, -R) is metadata only; use one',
    );
  if (dataFileName !== undefined && !wantsDataFile)
    throw new DiskliftError('InvalidRequest', '--data-file-name needs -d or -R, which make an image that names its data file');
  if (wantsDataFile && format !== 'raw')
    throw new DiskliftError('InvalidRequest', `an external data file (-d, -R) needs a raw disk, not -f ${format}`);
  if (wantsDataFile && (isNbdUri(imagePath) || isRemoteImage(imagePath)))
    throw new DiskliftError('InvalidRequest', 'an external data file (-d, -R) needs a disk in a file or a block device, not on a server');
  if (format !== 'raw' && !flags.verbatim && isNbdUri(imagePath))
    throw new DiskliftError('InvalidRequest', `an NBD server gives the disk that is in an image, so it is raw here, not -f ${format}`);
  return {
    clusterSizeBytes: flags.clusterSize,
    refcountBits: flags.refcountBits,
    version: flags.qcow2Version as 2 | 3,
    backingFile: baseOf(imagePath, flags).backingFile,
    dataFile: wantsDataFile ? { path: dataFileName ?? path.resolve(imagePath), raw: flags.rawDataFile } : undefined,
  };
}

/** @param entries `NAME=PATH`: a claim, and its mount point or block device @throws DiskliftError `InvalidRequest` */
export function parseVolumes(entries: readonly string[]): Map<string, string> {
  const volumes = new Map<string, string>();
  for (const entry of entries) {
    const [, name, location] = /^([^=]+)=(.+)$/.exec(entry) ?? [];
    if (name === undefined || location === undefined)
      throw new DiskliftError('InvalidRequest', `--volume ${entry}: NAME=PATH is expected, a claim and where it is mounted`);
    if (volumes.has(name)) throw new DiskliftError('InvalidRequest', `--volume ${entry}: ${name} is given twice`);
    volumes.set(name, path.resolve(location));
  }
  return volumes;
}
