/** Waiting for a directory to change: until the system tells of it, and else until it is time to look. */

import { type FSWatcher, statSync, watch } from 'node:fs';
import type { Clock } from '../../common/clock.ts';

export interface DirectoryWake {
  /** Ends at the latest after `limitMs`, and at once when `signal` is aborted. Never throws. */
  wait(limitMs: number, signal: AbortSignal): Promise<void>;
  /** Ends the wait, or the next one. */
  now(): void;
  close(): void;
}

/** Of a file that is written byte by byte the system tells byte by byte. */
const MIN_DELAY_MS = 100;

/** File systems over a network tell nothing: there it is the limit that counts. */
export function createDirectoryWake(directory: string, clock: Clock): DirectoryWake {
  let told = Promise.withResolvers<void>();
  let watcher: FSWatcher | undefined;
  let inode: number | undefined;

  function close(): void {
    watcher?.close();
    watcher = undefined;
  }

  /** A watcher stays with the directory that it was made for, also when that is gone and another has its name. */
  function renew(): void {
    const found = statSync(directory, { throwIfNoEntry: false })?.ino;
    if (found === inode && watcher !== undefined) return;
    close();
    inode = found;
    if (found === undefined) return;
    watcher = watch(directory, { persistent: false }, () => told.resolve());
    watcher.on('error', close);
  }

  return {
    async wait(limitMs, signal) {
      try {
        renew();
      } catch {
        // Too many watchers on this machine, or no right to have one.
        close();
      }
      const end = new AbortController();
      const ended = AbortSignal.any([signal, end.signal]);
      const least = Math.min(MIN_DELAY_MS, limitMs);
      const pause = (delayMs: number) => clock.delay(delayMs, ended).catch(() => {});
      await pause(least);
      await Promise.race([told.promise, pause(limitMs - least)]);
      end.abort();
      told = Promise.withResolvers<void>();
    },
    now: () => told.resolve(),
    close,
  };
}
