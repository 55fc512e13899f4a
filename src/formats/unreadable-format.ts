/** The files whose disk cannot be read: compressed files, archives, and other formats. Pure. */

interface Unreadable {
  /** For messages. */
  what: string;
  /** A disk in another format, files among which a disk may be, or one file that may be a disk. */
  holds: 'disk' | 'files' | 'file';
  /** File name extensions with the dot, in lower case. */
  extensions: readonly string[];
  /** The file's bytes from `at` on; left out where they are ambiguous. */
  magic?: { at: number; bytes: Buffer };
  /** Advice for the user. */
  advice: string;
}

const UNPACK = 'unpack it first';
const CONVERT = 'convert it first: qemu-img convert -O qcow2';
const UNPACK_DISK = 'unpack it and name the disk in it';
const MERGE = 'it holds the newest state of a disk; merge it into its parent first';

const magic = (bytes: string, at = 0) => ({ at, bytes: Buffer.from(bytes, 'latin1') });

/** The magics come from file(1)'s manual and the formats' specifications. */
const UNREADABLE: readonly Unreadable[] = [
  { what: 'a gzip file', holds: 'file', extensions: ['.gz'], magic: magic('\x1f\x8b\x08'), advice: UNPACK },
  { what: 'an xz file', holds: 'file', extensions: ['.xz'], magic: magic('\xfd7zXZ\0'), advice: UNPACK },
  { what: 'a zstd file', holds: 'file', extensions: ['.zst', '.zstd'], magic: magic('\x28\xb5\x2f\xfd'), advice: UNPACK },
  { what: 'a bzip2 file', holds: 'file', extensions: ['.bz2'], magic: magic('1AY&SY', 4), advice: UNPACK },
  { what: 'an lz4 file', holds: 'file', extensions: ['.lz4'], magic: magic('\x04\x22\x4d\x18'), advice: UNPACK },
  { what: 'an lzop file', holds: 'file', extensions: ['.lzo', '.lzop'], magic: magic('\x89LZO\0\r\n\x1a\n'), advice: UNPACK },
  { what: 'a compressed tar archive', holds: 'files', extensions: ['.tgz', '.txz', '.tbz2'], advice: UNPACK_DISK },
  { what: 'a zip archive', holds: 'files', extensions: ['.zip'], magic: magic('PK\x03\x04'), advice: UNPACK },
  { what: 'a 7-Zip archive', holds: 'files', extensions: ['.7z'], magic: magic('7z\xbc\xaf\x27\x1c'), advice: UNPACK },
  { what: 'a RAR archive', holds: 'files', extensions: ['.rar'], magic: magic('Rar!\x1a\x07'), advice: UNPACK },
  { what: 'an OVA, a tar archive of disks', holds: 'files', extensions: ['.ova'], advice: UNPACK_DISK },
  { what: 'a tar archive', holds: 'files', extensions: ['.tar', '.xva'], magic: magic('ustar', 257), advice: UNPACK_DISK },
  { what: 'a qcow image of version 1', holds: 'disk', extensions: [], magic: magic('QFI\xfb\0\0\0\x01'), advice: CONVERT },
  { what: 'a QED image', holds: 'disk', extensions: ['.qed'], magic: magic('QED\0'), advice: CONVERT },
  { what: 'a Parallels image', holds: 'disk', extensions: ['.hds', '.hdd'], magic: magic('WithoutFreeSpace'), advice: CONVERT },
  { what: 'a Parallels image', holds: 'disk', extensions: [], magic: magic('WithouFreSpacExt'), advice: CONVERT },
  { what: 'an Apple disk image', holds: 'disk', extensions: ['.dmg'], advice: CONVERT },
  { what: 'a checkpoint of Hyper-V', holds: 'disk', extensions: ['.avhd', '.avhdx'], advice: MERGE },
  { what: 'a VHD set of Hyper-V', holds: 'disk', extensions: ['.vhds'], advice: 'convert it first: Convert-VHD' },
  { what: 'a Proxmox backup', holds: 'disk', extensions: ['.vma'], magic: magic('VMA\0'), advice: 'unpack it by vma extract' },
  {
    ...{ what: 'an EnCase image', holds: 'disk', extensions: ['.e01'], magic: magic('EVF\x09\x0d\x0a\xff\0') },
    advice: 'export it as a raw disk first',
  },
  {
    ...{ what: 'an Android sparse image', holds: 'disk', extensions: ['.simg'], magic: magic('\x3a\xff\x26\xed') },
    advice: 'unpack it by simg2img',
  },
];

export type UnreadableFormat = Omit<Unreadable, 'extensions' | 'magic'>;

/** @param extension with the dot */
export function unreadableByName(extension: string): UnreadableFormat | undefined {
  const wanted = extension.toLowerCase();
  return UNREADABLE.find(({ extensions }) => extensions.includes(wanted));
}

/** @param head the file's first 512 bytes, or all of a shorter file. On a raw disk the guest may have written them. */
export function unreadableByBytes(head: Uint8Array): UnreadableFormat | undefined {
  return UNREADABLE.find((each) => each.magic?.bytes.equals(head.subarray(each.magic.at, each.magic.at + each.magic.bytes.length)));
}
