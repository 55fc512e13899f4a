/** A volume with the maximum number of disks of an export, at paths of nearly the maximum length. */

import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { createDisk } from './sparse-disk.ts';

const DISKS = 64;
/** A file system supports names of 255 bytes. */
const NAME_CHARACTERS = 250;

/** @returns the paths of the disks, relative to the volume */
export async function createLongPaths(volume: string): Promise<string[]> {
  const directory = ['a', 'b', 'c'].map((character) => character.repeat(NAME_CHARACTERS)).join('/');
  await mkdir(path.join(volume, directory), { recursive: true });
  const paths = Array.from({ length: DISKS }, (_, index) => `${directory}/${String(index).padStart(NAME_CHARACTERS - 4, '0')}.img`);
  for (const each of paths) await createDisk(path.join(volume, each), 65_536, []);
  return paths;
}
