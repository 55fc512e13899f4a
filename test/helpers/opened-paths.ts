/** Records every path that this process opens, by Node or by openat2. */

import { readlinkSync } from 'node:fs';
import fs from 'node:fs/promises';
import type { Libc } from '../../src/native/libc.ts';

export interface OpenedPaths {
  libc: Libc | undefined;
  /** The target of each opened descriptor, also of descriptors with O_PATH. */
  paths: string[];
  stop(): void;
}

/** @param libc to watch; the returned one replaces it */
export function watchOpenedPaths(libc: Libc | undefined): OpenedPaths {
  const paths: string[] = [];
  const note = (fd: number) => paths.push(readlinkSync(`/proc/self/fd/${fd}`));
  const { open } = fs;
  fs.open = async (...parameters) => {
    const handle = await open(...parameters);
    note(handle.fd);
    return handle;
  };
  const watched: Libc | undefined = libc && {
    ...libc,
    async openat2(...parameters) {
      const result = await libc.openat2(...parameters);
      if (result.errno === undefined) note(result.value);
      return result;
    },
  };
  return { libc: watched, paths, stop: () => Object.assign(fs, { open }) };
}

/**
 * The open files and sockets of this process whose names begin with `prefix`: the path of a directory, or `socket:`,
 * which has an inode behind it.
 */
export async function openNames(prefix: string): Promise<string[]> {
  const fds = await fs.readdir('/proc/self/fd');
  return fds.flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/self/fd/${fd}`)].filter((name) => name.startsWith(prefix));
    } catch {
      return [];
    }
  });
}
