/**
 * Chooses the format of a file for which nobody has stated one. A guest can write any bytes to its raw disk
 * (docs/decisions/0015).
 */

import path from 'node:path';
import { alignUp } from '../common/bytes.ts';
import { DiskliftError } from '../common/errors.ts';
import { type OpenedFile, readUpTo, statOpened } from '../sources/opened-file.ts';
import { PROBED_BYTES } from './format.ts';
import {
  type DiskFormat,
  FORMATS,
  formatOfBytes,
  formatOfFooter,
  formatOfName,
  partOf,
  type UnreadableFormat,
  unreadableByBytes,
  unreadableByName,
} from './formats.ts';

/** Name that KubeVirt gives the only disk of a volume, which is always raw. */
export const KUBEVIRT_DISK = 'disk.img';

export interface ChosenFormat {
  format: DiskFormat;
  /**
   * True where only the bytes indicate the format, not the name. A guest may have written them, so the file must refer
   * to no other.
   */
  isGuess: boolean;
}

/** The format that the bytes of a file indicate, or a format that disklift does not read. */
type Appearance = { format: DiskFormat } | { format?: never; unreadable: UnreadableFormat } | undefined;

async function appearanceOf(file: OpenedFile): Promise<Appearance> {
  const head = await readUpTo(file, 0, PROBED_BYTES);
  const format = formatOfBytes(head);
  if (format !== undefined) return { format };
  const unreadable = unreadableByBytes(head);
  return unreadable === undefined ? undefined : { unreadable };
}

/**
 * Chooses the format of a file for which the request states none. Name and bytes must agree; disk.img is always raw.
 * @throws DiskliftError `FormatUnsupported` where name and bytes contradict each other or indicate an unreadable
 * format; `SourceReadError`
 */
export async function chooseFormat(file: OpenedFile): Promise<ChosenFormat> {
  const { name } = file;
  if (path.basename(name) === KUBEVIRT_DISK) return { format: 'raw', isGuess: false };
  const refuse = (why: string) => new DiskliftError('FormatUnsupported', `${name}: ${why}`);
  const misnamed = unreadableByName(path.extname(name));
  if (misnamed !== undefined)
    throw refuse(`is named like ${misnamed.what}, which is not read here; ${misnamed.advice}, or state the format Raw for its own bytes`);
  const named = formatOfName(name);
  const footer = named === undefined ? undefined : FORMATS[named].footer;
  if (named !== undefined && footer?.isPresent(await lastSectorOf(file))) return { format: named, isGuess: false };
  const found = await appearanceOf(file);
  if (named !== undefined && named === (found === undefined ? 'raw' : found.format)) return { format: named, isGuess: false };
  if (found !== undefined && found.format === undefined && (named ?? 'raw') === 'raw')
    throw refuse(
      `begins like ${found.unreadable.what}, which is not read here; ${found.unreadable.advice}, or state the format Raw if its guest has written that`,
    );
  if (named === undefined) return chooseByBytes(file, found?.format);
  if (named === 'raw')
    throw refuse(
      `is named like a raw disk and begins like a ${found?.format} image, which its guest may have written; state its format, Raw or another`,
    );
  const part = partOf(name);
  if (part !== undefined) throw refuse(`is named like a part of a ${named.toUpperCase()}, and is no disk; name ${part.descriptorName}`);
  throw refuse(`is named like a ${named} image and is none; state its format, or rename it`);
}

/** Chooses by the bytes alone, for a name without a known extension. */
async function chooseByBytes(file: OpenedFile, found: DiskFormat | undefined): Promise<ChosenFormat> {
  if (found !== undefined) return { format: found, isGuess: true };
  // A raw disk may end in any bytes, but a footer with a valid checksum is no accident.
  const ending = formatOfFooter(await lastSectorOf(file));
  if (ending === undefined) return { format: 'raw', isGuess: false };
  throw new DiskliftError(
    'FormatUnsupported',
    `${file.name}: ends like ${FORMATS[ending].footer?.what}, and its name does not say so; state its format, ${ending.toUpperCase()} or Raw`,
  );
}

/**
 * Checks a file that is read as raw because no format was stated.
 * @returns the doubt that its name or its bytes raise, with advice; undefined for a file without doubt
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
  const ending = formatOfFooter(await lastSectorOf(file));
  if (ending === undefined) return undefined;
  return `ends like ${FORMATS[ending].footer?.what} and is read as a raw disk; give -f ${ending} for the disk in it, or -f raw for the file's own bytes`;
}

const SECTOR_SIZE_BYTES = 512;

/** The file's last sector, which may lack bytes at its end: old programs wrote 511 bytes of a VHD's footer. */
async function lastSectorOf(file: OpenedFile): Promise<Buffer> {
  const size = Number((await statOpened(file)).size);
  const at = alignUp(size, SECTOR_SIZE_BYTES) - SECTOR_SIZE_BYTES;
  return at < 0 ? Buffer.alloc(0) : readUpTo(file, at, SECTOR_SIZE_BYTES);
}
