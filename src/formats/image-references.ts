/** Names of other files that an image holds. A name must be judged by {@link resolveName} before its file is opened. */

import path from 'node:path';
import { alignUp } from '../common/bytes.ts';
import { DiskliftError } from '../common/errors.ts';
import type { VpcDisk } from './vpc/vpc-footer.ts';

/** The size of a disk and the names of other files, as the author of an image wrote them. */
export interface References {
  /**
   * The size of the disk as the image states it, in whole sectors of 512 bytes. Left out where other facts give it: a
   * raw file's length, the extents of a VMDK.
   */
  diskSizeBytes?: number;
  /** Location of the disk in a VHD. */
  vpc?: VpcDisk;
  /** Warning about the file, without its name; it does not stop the export. */
  warning?: string;
  /** `format` is the backing file's format as the image states it. */
  backing?: { name: string; format?: string };
  dataFile?: { name: string };
  /** The parts of a VMDK that is only a descriptor. */
  extents?: readonly DescribedExtent[];
  /** VMDK: the id of this image's content, and the id that its parent must have. */
  contentId?: string;
  parentContentId?: string;
}

/** A part of the disk, in order. */
export type DescribedExtent =
  | { kind: 'zero'; sizeBytes: number }
  | { kind: 'flat' | 'sparse'; name: string; offsetBytes: number; sizeBytes: number };

/** The size that a file states of the disk, or of the extent that it is. */
export interface ExtentSize {
  sizeBytes: number;
  /** The disk is divided into grains of this size. */
  grainSizeBytes: number;
}

/** Some programs round the stated size up to whole grains; that size is read. */
export function isSizeOf({ sizeBytes, grainSizeBytes }: ExtentSize, describedBytes: number): boolean {
  if (sizeBytes === describedBytes) return true;
  return grainSizeBytes > 0 && sizeBytes === alignUp(describedBytes, grainSizeBytes);
}

export type ReferenceKind = 'backing file' | 'data file' | 'extent';

export interface ReferenceToRepair {
  /** The image that holds the name. */
  image: string;
  what: ReferenceKind;
  /** The name that the image is to hold. */
  newName: string;
  /** Format of the named file, as the image states it. */
  namedFormat?: string | undefined;
}

export interface NamedReference {
  /** The name as the image's author wrote it. */
  name: string;
  /** The image's own path beneath the volume. */
  from: string;
  /** The image, for messages. */
  image: string;
  what: ReferenceKind;
  /** Absolute paths of the volume. An absolute name beneath one of them counts as a name beneath the volume. */
  volumeNames?: readonly string[];
  /** Advice for a name that leads out of the volume. */
  repair?: string;
}

/** Texts that QEMU reads as a protocol: nbd:, http:, json:, file: and many more. */
const PROTOCOL = /^[^/]*?:/;
const CONTROL_CHARACTER = /\p{Cc}/u;
/** Replaces bytes that are not UTF-8; programs disagree which file such a name means. */
const REPLACEMENT_CHARACTER = '\ufffd';
/** NAME_MAX of Linux. */
const MAX_PART_BYTES = 255;
const SHOWN_CHARACTERS = 100;

/**
 * A relative name counts from the directory of the image that holds it. `..` may lead out of that directory, but not
 * out of the volume. An absolute name is used as it stands, and must lie beneath the volume as this process sees it.
 * @returns a path beneath the volume, with slashes between its names
 * @throws DiskliftError `InvalidRequest`
 */
export function resolveName({ name, from, image, what, volumeNames = [], repair }: NamedReference): string {
  const refuse = (why: string) => new DiskliftError('InvalidRequest', `${image}: its ${what} is ${showName(name)}, ${why}`);
  if (PROTOCOL.test(name)) throw refuse('which is no file on the volume');
  const advice = repair === undefined ? '' : `; ${repair}`;
  if (CONTROL_CHARACTER.test(name)) throw refuse('which has control characters in it');
  if (name.includes(REPLACEMENT_CHARACTER)) throw refuse('which is not in UTF-8; give the file another name, and state that one');
  if (name.split('/').some((part) => Buffer.byteLength(part) > MAX_PART_BYTES)) throw refuse("longer than a file's name can be");
  const beneath = path.isAbsolute(name) ? pathBeneath(name, volumeNames) : path.posix.join(path.posix.dirname(from), name);
  if (beneath === undefined) throw refuse(`an absolute path that is not beneath the directory of the image or its volume${advice}`);
  const resolved = path.posix.normalize(beneath);
  if (resolved === '..' || resolved.startsWith('../')) throw refuse(`which leaves the volume${advice}`);
  if (resolved === '.' || resolved.endsWith('/')) throw refuse('which is a directory');
  return resolved;
}

/**
 * Compares texts only. `..` before the volume's name could lead elsewhere over a link, so such a name does not count as
 * beneath it.
 */
function pathBeneath(name: string, volumeNames: readonly string[]): string | undefined {
  const plain = name.replace(/\/+(\.\/+)*/g, '/');
  for (const volume of volumeNames) {
    const prefix = volume.endsWith('/') ? volume : `${volume}/`;
    if (plain.startsWith(prefix)) return plain.slice(prefix.length);
  }
  return undefined;
}

/** The name in messages. Only the protocol of an address is shown, because the rest may hold a password. */
export function showName(name: string): string {
  const protocol = PROTOCOL.exec(name)?.[0];
  const shown = protocol === undefined ? name : `${protocol}…`;
  return JSON.stringify(shown.length > SHOWN_CHARACTERS ? `${shown.slice(0, SHOWN_CHARACTERS)}…` : shown);
}
