/** The directory at which a volume is mounted, open while files beneath it are looked up. */

import { constants } from 'node:fs';
import fs, { type FileHandle } from 'node:fs/promises';
import { O_PATH } from '../common/path-of-descriptor.ts';
import { closeHandle } from './close-handle.ts';

export interface VolumeDirectory {
  /** For messages. */
  path: string;
  /**
   * Runs `task` with the directory that has the path now. Concurrent tasks share one descriptor, and the last one closes it. Checking
   * hundreds of files therefore opens the directory once.
   * @throws as open(2) does, and as `task` does
   */
  use<T>(task: (directory: FileHandle) => Promise<T>): Promise<T>;
}

export function createVolumeDirectory(path: string): VolumeDirectory {
  let opened: Promise<FileHandle> | undefined;
  let userCount = 0;
  return {
    path,
    async use(task) {
      userCount += 1;
      opened ??= fs.open(path, O_PATH | constants.O_DIRECTORY);
      const shared = opened;
      try {
        return await task(await shared);
      } finally {
        userCount -= 1;
        if (userCount === 0) {
          opened = undefined;
          await shared.then(closeHandle, () => {});
        }
      }
    },
  };
}
