/** A directory that only this user can look into, for moments. */

import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { DiskliftError, errnoOf } from '../../common/errors.ts';

/** In a container with a file system that cannot be written to, this one can. */
const SHARED_MEMORY = '/dev/shm';

export interface PrivateDirectory extends AsyncDisposable {
  path: string;
}

/** In TMPDIR, or where that cannot be written to in memory. Removed with all that is in it. @throws DiskliftError `SourceReadError` */
export async function makePrivateDirectory(): Promise<PrivateDirectory> {
  let errno: string | undefined;
  for (const parent of [os.tmpdir(), SHARED_MEMORY]) {
    try {
      const directory = await mkdtemp(path.join(parent, 'disklift-'));
      return { path: directory, [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }) };
    } catch (error) {
      errno = errnoOf(error);
    }
  }
  throw new DiskliftError(
    'SourceReadError',
    `no directory for the socket of a child process: neither ${os.tmpdir()} nor ${SHARED_MEMORY} can be written to (${errno}); set TMPDIR`,
    undefined,
    { retryable: false },
  );
}
