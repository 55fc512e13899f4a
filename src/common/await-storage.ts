/**
 * Bounds calls to files that a command needs before it starts, so that dead storage ends the command with a message.
 */

import { readFile } from 'node:fs/promises';
import type { Clock } from './clock.ts';
import { DiskliftError, errnoOf } from './errors.ts';
import { withinLimit } from './time-limit.ts';

export interface StorageWait {
  clock: Clock;
  signal: AbortSignal;
}

export const STORAGE_LIMIT_MS = 30_000;

/**
 * @param file names the storage in the message
 * @throws the failure of `call`; DiskliftError `InvalidRequest` after {@link STORAGE_LIMIT_MS}; `Cancelled` at once
 */
export function awaitStorage<T>(file: string, call: Promise<T>, { clock, signal }: StorageWait): Promise<T> {
  const text = `${file}: its storage has not answered for ${STORAGE_LIMIT_MS / 1000} s; look at the mount, or name a file elsewhere`;
  return withinLimit(call, { limitMs: STORAGE_LIMIT_MS, clock, signal, late: () => new DiskliftError('InvalidRequest', text) });
}

export interface FilesRead {
  /** @throws as `readFileSync` did when the file was read */
  text(file: string): string;
  isThere(file: string): boolean;
}

/**
 * Reads files that synchronous code needs. A synchronous read of dead storage would keep even signals from the process.
 * @throws DiskliftError as {@link awaitStorage}; a file that cannot be read fails only where its text is needed
 */
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
