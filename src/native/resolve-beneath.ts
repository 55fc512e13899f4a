/** Opens paths beneath a directory and never outside of it, even while another process changes the names there. */

import { type BigIntStats, close, constants, fstat } from 'node:fs';
import fs, { type FileHandle } from 'node:fs/promises';
import { promisify } from 'node:util';
import { O_PATH, pathOfDescriptor } from '../common/path-of-descriptor.ts';
import type { Libc } from './libc.ts';

const closeAsync = promisify(close);
const fstatAsync = promisify(fstat);

/** A resolved path: an O_PATH descriptor for fstat(2), which {@link pathOfDescriptor} can open. */
export interface ResolvedFile extends AsyncDisposable {
  fd: number;
  stat(): Promise<BigIntStats>;
}

const O_CLOEXEC = 0o2000000;

const RESOLVE_NO_MAGICLINKS = 0x02;
const RESOLVE_NO_SYMLINKS = 0x04;
const RESOLVE_BENEATH = 0x08;

/** ENOSYS: Linux before 5.6. EPERM: sandboxes that are older than the call refuse it like that. */
const LACKS_OPENAT2: ReadonlySet<string | undefined> = new Set(['ENOSYS', 'EPERM']);

/** An error whose `code` is the errno's name. */
export class ResolveError extends Error {
  readonly code: string;
  constructor(code: string) {
    super(`cannot be resolved: ${code}`);
    this.code = code;
  }
}

/**
 * Uses openat2(2); where the kernel lacks it, opens one part after the other with the same result.
 * @param parts names, each without a slash and neither `.` nor `..`
 * @throws an error with an errno as its code: ELOOP for a symbolic link in any part
 */
export async function resolveBeneath(libc: Libc | undefined, directory: FileHandle, parts: readonly string[]): Promise<ResolvedFile> {
  if (libc === undefined) return resolvedBy(await walk(directory, parts));
  const { value: fd, errno } = await libc.openat2(directory.fd, parts.join('/'), {
    flags: O_PATH | O_CLOEXEC,
    resolve: RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
  });
  if (LACKS_OPENAT2.has(errno)) return resolvedBy(await walk(directory, parts));
  if (errno !== undefined) throw new ResolveError(errno);
  return { fd, stat: () => fstatAsync(fd, { bigint: true }), [Symbol.asyncDispose]: () => closeAsync(fd) };
}

function resolvedBy(handle: FileHandle): ResolvedFile {
  return { fd: handle.fd, stat: () => handle.stat({ bigint: true }), [Symbol.asyncDispose]: () => handle.close() };
}

async function walk(directory: FileHandle, parts: readonly string[]): Promise<FileHandle> {
  let at = directory;
  try {
    for (const part of parts) {
      const next = await fs.open(`${pathOfDescriptor(at)}/${part}`, O_PATH | constants.O_NOFOLLOW);
      if (at !== directory) await at.close();
      at = next;
      if ((await at.stat()).isSymbolicLink()) throw new ResolveError('ELOOP');
    }
    return at;
  } catch (error) {
    if (at !== directory) await at.close();
    throw error;
  }
}
