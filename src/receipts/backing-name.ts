/** The name of a base in the header of an image: a relative path that a file system can follow. Pure. */

import { MAX_BACKING_FILE_NAME_LENGTH } from '../qcow2/constants.ts';

/** Limit of one name on most file systems. */
const MAX_PART_BYTES = 255;

const CONTROL_CHARACTER = /\p{Cc}/u;

/**
 * Both images may be moved together, so the name leads from one to the other.
 * @param from the folders and the name of the new image; `to` those of the base
 * @returns undefined where no file system could follow it
 */
export function backingNameOf(from: readonly string[], to: readonly string[]): string | undefined {
  if (![...from, ...to].every(isFileName)) return undefined;
  const shared = sharedFolders(from, to);
  const name = [...from.slice(shared, -1).map(() => '..'), ...to.slice(shared)].join('/');
  if (name === from.at(-1)) return undefined;
  // QEMU reads the text in front of a colon as a protocol.
  const relative = /^[^/]*:/.test(name) ? `./${name}` : name;
  return Buffer.byteLength(relative) > MAX_BACKING_FILE_NAME_LENGTH ? undefined : relative;
}

function isFileName(part: string): boolean {
  const isName = part !== '' && part !== '.' && part !== '..' && !part.includes('/');
  return isName && !CONTROL_CHARACTER.test(part) && part.isWellFormed() && Buffer.byteLength(part) <= MAX_PART_BYTES;
}

function sharedFolders(from: readonly string[], to: readonly string[]): number {
  const most = Math.min(from.length, to.length) - 1;
  let shared = 0;
  while (shared < most && from[shared] === to[shared]) shared += 1;
  return shared;
}

/** The parts of an object's key: downloads of a bucket use it as a path. */
export function partsOfKey(key: string): string[] {
  return key.split('/');
}

/** The parts of a URL's path: servers store files under the decoded names. */
export function partsOfUrlPath(path: string): string[] {
  return path.split('/').slice(1).map(decoded);
}

/** @returns a name that no file can have for a part that encodes nothing */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return '';
  }
}
