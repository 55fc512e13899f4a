/** Files that synchronous code needs, read beforehand: a synchronous read of dead storage would keep even signals from the process. */

import { readFile } from 'node:fs/promises';
import { awaitStorage, type StorageWait } from './await-storage.ts';
import { errnoOf } from './errors.ts';

export interface FilesRead {
  /** @throws as `readFileSync` did when the file was read */
  text(file: string): string;
  isThere(file: string): boolean;
}

/** @throws DiskliftError as {@link awaitStorage}; a file that cannot be read fails only where its text is needed */
export async function readAhead(files: readonly string[], wait: StorageWait): Promise<FilesRead> {
  const outcomes = new Map<string, string | { error: unknown }>();
  for (const file of files) {
    const reading = readFile(file, 'utf8').catch((error: unknown) => ({ error }));
    outcomes.set(file, await awaitStorage(file, reading, wait));
  }
  return {
    text(file) {
      const outcome = outcomes.get(file);
      if (typeof outcome === 'string') return outcome;
      throw outcome?.error ?? new Error(`${file}: was not read beforehand`);
    },
    isThere(file) {
      const outcome = outcomes.get(file);
      return typeof outcome === 'string' || !['ENOENT', 'ENOTDIR'].includes(errnoOf(outcome?.error) ?? '');
    },
  };
}
