/** Files that exist for QEMU alone. They have no name by the time that QEMU opens them. */

import fs, { type FileHandle, mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { DiskliftError, errnoOf } from '../../common/errors.ts';
import type { Inherited } from './node-graph.ts';

/** unix(7): a socket's path has at most 107 bytes and a terminator. */
const MAX_SOCKET_PATH_BYTES = 107;

/** mkdtemp(3) puts six characters behind the prefix; the socket has a short name in the directory. */
const SOCKET_BENEATH = '/disklift-XXXXXX/nbd';

/** Writable also in a container whose file system is read-only. */
const SHARED_MEMORY = '/dev/shm';

interface PrivateDirectory extends AsyncDisposable {
  path: string;
}

/**
 * Makes a directory in TMPDIR, or in memory where TMPDIR is not writable or its path is too long for a socket.
 * Disposing removes it with its content.
 * @throws DiskliftError `SourceReadError`
 */
export async function makePrivateDirectory(): Promise<PrivateDirectory> {
  let errno: string | undefined;
  for (const parent of [os.tmpdir(), SHARED_MEMORY, '/tmp']) {
    try {
      if (Buffer.byteLength(parent + SOCKET_BENEATH) > MAX_SOCKET_PATH_BYTES) {
        errno ??= 'ENAMETOOLONG';
        continue;
      }
      const directory = await mkdtemp(path.join(parent, 'disklift-'));
      return { path: directory, [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }) };
    } catch (error) {
      errno = errnoOf(error);
    }
  }
  throw new DiskliftError(
    'SourceReadError',
    `no directory for the socket of a child process: neither ${os.tmpdir()} nor ${SHARED_MEMORY} nor /tmp can be used (${errno}); set TMPDIR to a short path`,
    undefined,
    { retryable: false },
  );
}

interface InheritedHandles extends AsyncDisposable {
  /** One handle for each file that QEMU inherits, in their order. */
  handles: readonly FileHandle[];
  /** The handles of the files that were made. */
  made: readonly FileHandle[];
}

/** Disposing closes the made files; the image's owner closes its own. @param directory may be removed afterwards */
export async function openInherited(inherited: readonly Inherited[], directory: string): Promise<InheritedHandles> {
  const made: FileHandle[] = [];
  const handles: FileHandle[] = [];
  const close = async () => {
    await Promise.all(made.map((handle) => handle.close()));
  };
  try {
    for (const [index, what] of inherited.entries()) {
      if (what.kind === 'image') {
        handles.push(what.file.handle);
        continue;
      }
      const handle = await fs.open(path.join(directory, `${index}`), 'wx+', 0o600);
      made.push(handle);
      handles.push(handle);
      if (what.kind === 'text') await handle.writeFile(what.text);
      else await handle.truncate(what.sizeBytes);
    }
  } catch (error) {
    await close();
    throw error;
  }
  return { handles, made, [Symbol.asyncDispose]: close };
}
