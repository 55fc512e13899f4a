/** Finds the files of a volume whose paths match a pattern. */

import fs from 'node:fs/promises';
import path from 'node:path';
import { DiskliftError } from '../common/errors.ts';
import { openError } from './open-error.ts';

export function isPattern(relativePath: string): boolean {
  return relativePath.includes('*');
}

/**
 * @param pattern relative to the volume; a `*` stands for any characters of one name except a leading dot, as in a
 * shell
 * @returns sorted paths of regular files beneath the volume; follows no link
 * @throws DiskliftError `SourceNotFound` where no file matches, `SourcePermissionDenied`, `SourceReadError`
 */
export async function matchDisks(volumePath: string, pattern: string): Promise<string[]> {
  let directories = [''];
  const parts = pattern.split('/');
  const files: string[] = [];
  for (const [index, part] of parts.entries()) {
    const isLast = index === parts.length - 1;
    const fits = expressionOf(part);
    const found: string[] = [];
    for (const directory of directories)
      for (const entry of await entriesOf(path.join(volumePath, directory)))
        if (fits.test(entry.name) && (isLast ? entry.isFile() : entry.isDirectory())) found.push(path.posix.join(directory, entry.name));
    if (isLast) files.push(...found);
    else directories = found;
  }
  if (files.length > 0) return files.sort();
  throw new DiskliftError('SourceNotFound', `${volumePath}: no file fits ${JSON.stringify(pattern)}; links are not followed`);
}

function expressionOf(part: string): RegExp {
  const escaped = part
    .split('*')
    .map((text) => text.replace(/[\\^$.+?()[\]{}|]/g, '\\$&'))
    .join('.*');
  return new RegExp(`^${part.startsWith('*') ? '(?!\\.)' : ''}${escaped}$`, 's');
}

async function entriesOf(directory: string) {
  try {
    return await fs.readdir(directory, { withFileTypes: true });
  } catch (error) {
    throw openError(directory, error, { missing: 'not found' });
  }
}
