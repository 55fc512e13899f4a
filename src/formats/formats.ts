/**
 * The table of formats: a row for each format that disklift reads, and a row for each that it recognizes and refuses.
 */

import path from 'node:path';
import { type Format, type FormatReader, type ImagePart, type Magic, PROBED_BYTES } from './format.ts';
import { VMDK_DESCRIPTOR_START, vmdkPartOf } from './vmdk/vmdk-names.ts';
import { hasVpcChecksum, hasVpcCookie } from './vpc/vpc-footer.ts';

const magic = (bytes: string, at = 0): Magic => ({ at, bytes: Buffer.from(bytes, 'latin1') });

/** Facts of a format whose images are one file with its marks at the beginning. */
const PLAIN_FILE = { textStart: undefined, footer: undefined, partOf: undefined };

/** By the names of QEMU's drivers, which users give to -f and, in any case, in a request. vpc is VHD. */
const ROWS = {
  raw: {
    ...{ extensions: ['.img', '.raw'], magic: [], ...PLAIN_FILE, mayHaveBacking: false },
    load: async () => (await import('./raw/raw-reader.ts')).RAW_READER,
  },
  qcow2: {
    ...{ extensions: ['.qcow2'], magic: [magic('QFI\xfb')], ...PLAIN_FILE, mayHaveBacking: true },
    load: async () => (await import('./qcow2/qcow2-reader.ts')).QCOW2_READER,
  },
  vmdk: {
    extensions: ['.vmdk'],
    magic: [magic('KDMV'), magic('COWD')],
    textStart: VMDK_DESCRIPTOR_START,
    footer: undefined,
    partOf: vmdkPartOf,
    mayHaveBacking: true,
    load: async () => (await import('./vmdk/vmdk-reader.ts')).VMDK_READER,
  },
  vhdx: {
    ...{ extensions: ['.vhdx'], magic: [magic('vhdxfile')], ...PLAIN_FILE, mayHaveBacking: false },
    load: async () => (await import('./vhdx/vhdx-reader.ts')).VHDX_READER,
  },
  vdi: {
    ...{ extensions: ['.vdi'], magic: [magic('\x7f\x10\xda\xbe', 64)], ...PLAIN_FILE, mayHaveBacking: false },
    load: async () => (await import('./vdi/vdi-reader.ts')).VDI_READER,
  },
  vpc: {
    extensions: ['.vhd', '.vpc'],
    // A dynamic disk begins with a copy of its footer. A fixed disk begins with the guest's bytes.
    magic: [magic('conectix')],
    footer: { what: 'a VHD', isPresent: hasVpcCookie, isProven: hasVpcChecksum },
    textStart: undefined,
    partOf: undefined,
    mayHaveBacking: false,
    load: async () => (await import('./vpc/vpc-reader.ts')).VPC_READER,
  },
} satisfies Record<string, Format>;

export type DiskFormat = keyof typeof ROWS;

export const FORMATS: Readonly<Record<DiskFormat, Format>> = ROWS;
export const DISK_FORMATS = Object.keys(FORMATS) as readonly DiskFormat[];

export function isDiskFormat(name: string): name is DiskFormat {
  return Object.hasOwn(FORMATS, name);
}

/** @param name in the table @throws Error for another name */
export function formatNamed(name: string): Format {
  if (!isDiskFormat(name)) throw new Error(`${name} is not in the table of formats`);
  return FORMATS[name];
}

/** @param name in the table */
export function readerOf(name: string): Promise<FormatReader> {
  return formatNamed(name).load();
}

/** @returns the format that a file's name states, by its extension or as a part of an image */
export function formatOfName(fileName: string): DiskFormat | undefined {
  if (partOf(fileName)?.isWholeDisk) return 'raw';
  const extension = path.extname(fileName).toLowerCase();
  return DISK_FORMATS.find((name) => FORMATS[name].extensions.includes(extension));
}

/** @param fileName with or without its directory @returns undefined for the name of any other file */
export function partOf(fileName: string): ImagePart | undefined {
  for (const name of DISK_FORMATS) {
    const part = FORMATS[name].partOf?.(fileName);
    if (part !== undefined) return part;
  }
  return undefined;
}

/**
 * The format that the first bytes of a file indicate. On a raw disk the guest may have written them.
 * @param head the file's first {@link PROBED_BYTES}, or all of a shorter file
 * @returns undefined for bytes without a mark: perhaps raw
 */
export function formatOfBytes(head: Uint8Array): DiskFormat | undefined {
  const found = DISK_FORMATS.find((name) => hasMagic(head, FORMATS[name].magic));
  if (found !== undefined) return found;
  const text = Buffer.from(head.subarray(0, PROBED_BYTES)).toString('latin1');
  return DISK_FORMATS.find((name) => FORMATS[name].textStart?.test(text));
}

function hasMagic(head: Uint8Array, magics: readonly Magic[]): boolean {
  return magics.some(({ at, bytes }) => bytes.equals(head.subarray(at, at + bytes.length)));
}

/** @param sector the file's last @returns the format of which the sector is the footer, as a checksum proves */
export function formatOfFooter(sector: Uint8Array): DiskFormat | undefined {
  return DISK_FORMATS.find((name) => {
    const { footer } = FORMATS[name];
    return footer?.isPresent(sector) && footer.isProven(sector);
  });
}

export interface UnreadableFormat {
  /** The kind of file, for messages. */
  what: string;
  /**
   * 'disk': another format of disks. 'files': an archive in which a disk may be. 'file': a compressed file that may be
   * a disk.
   */
  holds: 'disk' | 'files' | 'file';
  /** Advice for the user. */
  advice: string;
}

interface UnreadableRow extends UnreadableFormat {
  /** File name extensions with the dot, in lower case. */
  extensions: readonly string[];
  /** Empty where the format's first bytes are ambiguous. */
  magic: readonly Magic[];
}

const UNPACK = 'unpack it first';
const CONVERT = 'convert it first: qemu-img convert -O qcow2';
const UNPACK_DISK = 'unpack it and name the disk in it';
const MERGE = 'it holds the newest state of a disk; merge it into its parent first';

/**
 * Compressed files, archives, and formats of other programs. The magics come from file(1)'s manual and the formats'
 * specifications.
 */
const UNREADABLE: readonly UnreadableRow[] = [
  { what: 'a gzip file', holds: 'file', extensions: ['.gz'], magic: [magic('\x1f\x8b\x08')], advice: UNPACK },
  { what: 'an xz file', holds: 'file', extensions: ['.xz'], magic: [magic('\xfd7zXZ\0')], advice: UNPACK },
  { what: 'a zstd file', holds: 'file', extensions: ['.zst', '.zstd'], magic: [magic('\x28\xb5\x2f\xfd')], advice: UNPACK },
  { what: 'a bzip2 file', holds: 'file', extensions: ['.bz2'], magic: [magic('1AY&SY', 4)], advice: UNPACK },
  { what: 'an lz4 file', holds: 'file', extensions: ['.lz4'], magic: [magic('\x04\x22\x4d\x18')], advice: UNPACK },
  { what: 'an lzop file', holds: 'file', extensions: ['.lzo', '.lzop'], magic: [magic('\x89LZO\0\r\n\x1a\n')], advice: UNPACK },
  { what: 'a compressed tar archive', holds: 'files', extensions: ['.tgz', '.txz', '.tbz2'], magic: [], advice: UNPACK_DISK },
  { what: 'a zip archive', holds: 'files', extensions: ['.zip'], magic: [magic('PK\x03\x04')], advice: UNPACK },
  { what: 'a 7-Zip archive', holds: 'files', extensions: ['.7z'], magic: [magic('7z\xbc\xaf\x27\x1c')], advice: UNPACK },
  { what: 'a RAR archive', holds: 'files', extensions: ['.rar'], magic: [magic('Rar!\x1a\x07')], advice: UNPACK },
  { what: 'an OVA, a tar archive of disks', holds: 'files', extensions: ['.ova'], magic: [], advice: UNPACK_DISK },
  { what: 'a tar archive', holds: 'files', extensions: ['.tar', '.xva'], magic: [magic('ustar', 257)], advice: UNPACK_DISK },
  { what: 'a qcow image of version 1', holds: 'disk', extensions: [], magic: [magic('QFI\xfb\0\0\0\x01')], advice: CONVERT },
  { what: 'a QED image', holds: 'disk', extensions: ['.qed'], magic: [magic('QED\0')], advice: CONVERT },
  {
    ...{ what: 'a Parallels image', holds: 'disk', extensions: ['.hds', '.hdd'], advice: CONVERT },
    magic: [magic('WithoutFreeSpace'), magic('WithouFreSpacExt')],
  },
  { what: 'an Apple disk image', holds: 'disk', extensions: ['.dmg'], magic: [], advice: CONVERT },
  { what: 'a checkpoint of Hyper-V', holds: 'disk', extensions: ['.avhd', '.avhdx'], magic: [], advice: MERGE },
  { what: 'a VHD set of Hyper-V', holds: 'disk', extensions: ['.vhds'], magic: [], advice: 'convert it first: Convert-VHD' },
  { what: 'a Proxmox backup', holds: 'disk', extensions: ['.vma'], magic: [magic('VMA\0')], advice: 'unpack it by vma extract' },
  {
    ...{ what: 'an EnCase image', holds: 'disk', extensions: ['.e01'], magic: [magic('EVF\x09\x0d\x0a\xff\0')] },
    advice: 'export it as a raw disk first',
  },
  {
    ...{ what: 'an Android sparse image', holds: 'disk', extensions: ['.simg'], magic: [magic('\x3a\xff\x26\xed')] },
    advice: 'unpack it by simg2img',
  },
];

/** @param extension with the dot, in any case */
export function unreadableByName(extension: string): UnreadableFormat | undefined {
  const wanted = extension.toLowerCase();
  return UNREADABLE.find(({ extensions }) => extensions.includes(wanted));
}

/** @param head as {@link formatOfBytes} takes it. On a raw disk the guest may have written it. */
export function unreadableByBytes(head: Uint8Array): UnreadableFormat | undefined {
  return UNREADABLE.find((each) => hasMagic(head, each.magic));
}
