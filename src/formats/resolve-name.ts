/** From a name that an image holds to a path beneath the volume. */

import path from 'node:path';
import { DiskliftError } from '../common/errors.ts';

export interface NamedReference {
  /** As the image's author wrote it. */
  name: string;
  /** The image's own path beneath the volume. */
  from: string;
  /** For messages: which image, and what it is that it names. */
  image: string;
  what: string;
  /** Absolute paths of the volume. An absolute name beneath one of them counts as a name beneath the volume. */
  volumeNames?: readonly string[];
  /** Advice for a name that leads out of the volume. */
  repair?: string;
}

/** What QEMU takes for a protocol: nbd:, http:, json:, file: and many more. */
const PROTOCOL = /^[^/]*?:/;
const CONTROL_CHARACTER = /\p{Cc}/u;
/** Replaces bytes that are not UTF-8; programs disagree which file such a name means. */
const REPLACEMENT_CHARACTER = '\ufffd';
/** NAME_MAX of Linux. */
const MAX_PART_BYTES = 255;
const SHOWN_CHARACTERS = 100;

/**
 * A relative name counts from the directory of the image that holds it. `..` may lead out of that directory, but not out of the volume.
 * An absolute name is used as it stands, and must lie beneath the volume as this process sees it.
 * @returns names with slashes between them
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

/** Compares texts only. `..` before the volume's name could lead elsewhere over a link, so such a name does not count as beneath it. */
function pathBeneath(name: string, volumeNames: readonly string[]): string | undefined {
  const plain = name.replace(/\/+(\.\/+)*/g, '/');
  for (const volume of volumeNames) {
    const prefix = volume.endsWith('/') ? volume : `${volume}/`;
    if (plain.startsWith(prefix)) return plain.slice(prefix.length);
  }
  return undefined;
}

/** Of what may be an address, the protocol only: the rest of it may hold a password. */
export function showName(name: string): string {
  const protocol = PROTOCOL.exec(name)?.[0];
  const shown = protocol === undefined ? name : `${protocol}…`;
  return JSON.stringify(shown.length > SHOWN_CHARACTERS ? `${shown.slice(0, SHOWN_CHARACTERS)}…` : shown);
}
