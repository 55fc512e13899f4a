/** From a name that an image holds to a path beneath the volume. */

import path from 'node:path';
import { DiskliftError } from '../../common/errors.ts';

export interface NamedReference {
  /** As the image's author wrote it. */
  name: string;
  /** The image's own path beneath the volume. */
  from: string;
  /** For messages: which image, and what it is that it names. */
  image: string;
  what: string;
}

/** What QEMU takes for a protocol: nbd:, http:, json:, file: and many more. */
const PROTOCOL = /^[^/]*?:/;
const CONTROL_CHARACTER = /\p{Cc}/u;
/** Stands for bytes that are no UTF-8: programs disagree which file they name. */
const REPLACEMENT_CHARACTER = '\ufffd';
/** NAME_MAX of Linux. */
const MAX_PART_BYTES = 255;
const SHOWN_CHARACTERS = 100;

/**
 * Relative names only, relative to the directory of the image that holds them. `..` may lead out of that, but not out of the volume.
 * @returns names with slashes between them
 * @throws DiskliftError `InvalidRequest`
 */
export function resolveName({ name, from, image, what }: NamedReference): string {
  const refuse = (why: string) => new DiskliftError('InvalidRequest', `${image}: its ${what} is ${showName(name)}, ${why}`);
  if (PROTOCOL.test(name)) throw refuse('which is no file on the volume');
  if (path.isAbsolute(name)) throw refuse('an absolute path, and only files on the volume are opened; rewrite it as a relative path');
  if (CONTROL_CHARACTER.test(name)) throw refuse('which has control characters in it');
  if (name.includes(REPLACEMENT_CHARACTER)) throw refuse('which is not in UTF-8; give the file another name, and state that one');
  if (name.split('/').some((part) => Buffer.byteLength(part) > MAX_PART_BYTES)) throw refuse("longer than a file's name can be");
  const resolved = path.posix.join(path.posix.dirname(from), name);
  if (resolved === '..' || resolved.startsWith('../')) throw refuse('which leaves the volume');
  if (resolved === '.' || resolved.endsWith('/')) throw refuse('which is a directory');
  return resolved;
}

/** Of what may be an address, the protocol only: the rest of it may hold a password. */
export function showName(name: string): string {
  const protocol = PROTOCOL.exec(name)?.[0];
  const shown = protocol === undefined ? name : `${protocol}…`;
  return JSON.stringify(shown.length > SHOWN_CHARACTERS ? `${shown.slice(0, SHOWN_CHARACTERS)}…` : shown);
}
