/** Which format a file is read as when nobody has said so. A guest writes what it likes to its raw disk (docs/decisions/0015). */

import path from 'node:path';
import { alignUp } from '../common/bytes.ts';
import { DiskliftError } from '../common/errors.ts';
import { type OpenedFile, readUpTo, statOpened } from '../sources/opened-file.ts';
import { KUBEVIRT_DISK } from './disk-names.ts';
import type { DiskFormat } from './image-tree.ts';
import { PROBED_BYTES, probeFormat } from './probe-format.ts';
import { type UnreadableFormat, unreadableByBytes, unreadableByName } from './unreadable-format.ts';
import { vmdkPartOf } from './vmdk/vmdk-part-name.ts';
import { hasVpcChecksum, hasVpcCookie, VPC_FOOTER_BYTES } from './vpc/vpc-footer.ts';

export interface ChosenFormat {
  format: DiskFormat;
  /** Only the bytes say so, not the name. Whoever wrote them may be the guest, so the file must refer to no other. */
  isGuess: boolean;
}

const FORMAT_OF_EXTENSION: Readonly<Record<string, DiskFormat>> = {
  ...{ '.img': 'raw', '.raw': 'raw', '.qcow2': 'qcow2', '.vmdk': 'vmdk' },
  ...{ '.vhdx': 'vhdx', '.vdi': 'vdi', '.vhd': 'vpc', '.vpc': 'vpc' },
};

function formatOfName(name: string): DiskFormat | undefined {
  return vmdkPartOf(name)?.isWholeDisk ? 'raw' : FORMAT_OF_EXTENSION[path.extname(name).toLowerCase()];
}

/** The format that the bytes of a file indicate, or the name of a format that disklift does not read. */
type Appearance = { format: DiskFormat } | { format?: never; unreadable: UnreadableFormat } | undefined;

async function appearanceOf(file: OpenedFile): Promise<Appearance> {
  const head = await readUpTo(file, 0, PROBED_BYTES);
  const format = probeFormat(head);
  if (format !== undefined) return { format };
  const unreadable = unreadableByBytes(head);
  return unreadable === undefined ? undefined : { unreadable };
}

/**
 * Chooses the format of a file for which the request states none. Name and bytes must agree; disk.img is always raw.
 * @throws DiskliftError `FormatUnsupported` where name and bytes contradict each other or indicate an unreadable format; `SourceReadError`
 */
export async function chooseFormat(file: OpenedFile): Promise<ChosenFormat> {
  const { name } = file;
  if (path.basename(name) === KUBEVIRT_DISK) return { format: 'raw', isGuess: false };
  const refuse = (why: string) => new DiskliftError('FormatUnsupported', `${name}: ${why}`);
  const misnamed = unreadableByName(path.extname(name));
  if (misnamed !== undefined)
    throw refuse(`is named like ${misnamed.what}, which is not read here; ${misnamed.advice}, or state the format Raw for its own bytes`);
  const named = formatOfName(name);
  if (named === 'vpc' && hasVpcCookie(await lastSectorOf(file))) return { format: 'vpc', isGuess: false };
  const found = await appearanceOf(file);
  if (named !== undefined && named === (found === undefined ? 'raw' : found.format)) return { format: named, isGuess: false };
  if (found !== undefined && found.format === undefined && (named ?? 'raw') === 'raw')
    throw refuse(
      `begins like ${found.unreadable.what}, which is not read here; ${found.unreadable.advice}, or state the format Raw if its guest has written that`,
    );
  if (named === undefined) return chooseByBytes(file, found?.format);
  const part = vmdkPartOf(name);
  if (named === 'vmdk' && part !== undefined) throw refuse(`is named like a part of a VMDK, and is no disk; name ${part.descriptorName}`);
  throw refuse(
    named === 'raw'
      ? `is named like a raw disk and begins like a ${found?.format} image, which its guest may have written; state its format, Raw or another`
      : `is named like a ${named} image and is none; state its format, or rename it`,
  );
}

/** Chooses by the bytes alone, for a name without a known extension. */
async function chooseByBytes(file: OpenedFile, found: DiskFormat | undefined): Promise<ChosenFormat> {
  if (found !== undefined) return { format: found, isGuess: true };
  // A raw disk may end in any bytes, but a footer with a valid checksum is no accident.
  if (await endsAsFixedVhd(file))
    throw new DiskliftError(
      'FormatUnsupported',
      `${file.name}: ends like a VHD, and its name does not say so; state its format, VPC or Raw`,
    );
  return { format: 'raw', isGuess: false };
}

/**
 * Checks a file that is read as raw because no format was stated.
 * @returns the doubt that its name or its bytes raise, with advice; undefined where there is none
 * @throws DiskliftError `SourceReadError`
 */
export async function doubtThatRaw(file: OpenedFile): Promise<string | undefined> {
  const extension = path.extname(file.name);
  const named = unreadableByName(extension) ?? formatOfName(file.name);
  const found = named === undefined || named === 'raw' ? await appearanceOf(file) : undefined;
  const verb = found === undefined ? 'is named like' : 'begins like';
  const seen = found === undefined ? named : (found.format ?? found.unreadable);
  if (typeof seen === 'object') return `${verb} ${seen.what} and is read as a raw disk; ${seen.advice}, or give -f raw if it is one`;
  if (seen !== undefined && seen !== 'raw')
    return `${verb} a ${seen} image and is read as a raw disk; give -f ${seen} for the disk in the image, or -f raw for the file's own bytes`;
  if (await endsAsFixedVhd(file))
    return "ends like a VHD and is read as a raw disk; give -f vpc for the disk in it, or -f raw for the file's own bytes";
  return undefined;
}

async function endsAsFixedVhd(file: OpenedFile): Promise<boolean> {
  const sector = await lastSectorOf(file);
  return hasVpcCookie(sector) && hasVpcChecksum(sector);
}

async function lastSectorOf(file: OpenedFile): Promise<Buffer> {
  const size = Number((await statOpened(file)).size);
  // Old programs wrote 511 bytes.
  const at = alignUp(size, VPC_FOOTER_BYTES) - VPC_FOOTER_BYTES;
  return at < 0 ? Buffer.alloc(0) : readUpTo(file, at, VPC_FOOTER_BYTES);
}
