/** Waits for a change of a directory: until the system reports one, and at most for a given time. */

import { type FSWatcher, watch } from 'node:fs';
import { stat } from 'node:fs/promises';
import { abortable } from '../../common/abortable.ts';
import type { Clock } from '../../common/clock.ts';

export interface DirectoryWake {
  /** Waits at most `limitMs` where the storage answers. Ends at once when `signal` is aborted. Never throws. */
  wait(limitMs: number, signal: AbortSignal): Promise<void>;
  /** Ends the current wait, or the next one. */
  now(): void;
  close(): void;
}

/** Shortest wait: the system may report each byte that is written to a file. */
const MIN_DELAY_MS = 100;

/** Network file systems report no changes: there every wait lasts as long as its limit. */
export function createDirectoryWake(directory: string, clock: Clock): DirectoryWake {
  let change = Promise.withResolvers<void>();
  let watcher: FSWatcher | undefined;
  let inode: number | undefined;

  function close(): void {
    watcher?.close();
    watcher = undefined;
  }

  /**
   * Replaces the watcher when another directory has the name: a watcher stays with the inode that it was opened for.
   * `watch` is synchronous and would keep the process where the storage does not answer. An awaited call comes first.
   */
  async function renew(signal: AbortSignal): Promise<void> {
    const { ino } = await abortable(stat(directory), signal);
    if (ino === inode && watcher !== undefined) return;
    close();
    inode = ino;
    watcher = watch(directory, { persistent: false }, () => change.resolve());
    watcher.on('error', close);
  }

  return {
    async wait(limitMs, signal) {
      try {
        await renew(signal);
      } catch {
        // The directory is missing, the limit of watchers (inotify) is reached, or the user may not open one.
        close();
      }
      const end = new AbortController();
      const ended = AbortSignal.any([signal, end.signal]);
      const minMs = Math.min(MIN_DELAY_MS, limitMs);
      const pause = (delayMs: number) => clock.delay(delayMs, ended).catch(() => {});
      await pause(minMs);
      await Promise.race([change.promise, pause(limitMs - minMs)]);
      end.abort();
      change = Promise.withResolvers<void>();
    },
    now: () => change.resolve(),
    close,
  };
}
