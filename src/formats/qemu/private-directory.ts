/** A directory that only this user can look into, for moments. */

import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { DiskliftError, errnoOf } from '../../common/errors.ts';

/** unix(7): a socket's path has 107 bytes and a terminator. */
const MAX_SOCKET_PATH_BYTES = 107;

/** mkdtemp(3) puts six characters behind the prefix; the socket has a short name in the directory. */
const SOCKET_BENEATH = '/disklift-XXXXXX/nbd';

/** In a container with a file system that cannot be written to, this one can. */
const SHARED_MEMORY = '/dev/shm';

export interface PrivateDirectory extends AsyncDisposable {
  path: string;
}

/**
 * Makes a directory in TMPDIR, or in memory where TMPDIR is not writable or its path is too long for a socket. Disposing removes it with
 * its content.
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
