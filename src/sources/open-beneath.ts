/**
 * Opens files beneath a volume. Untrusted users choose the path and fill the volume, so nothing outside of the volume
 * is ever opened. This holds even while another process changes the names there.
 */

import { type BigIntStats, close, constants, fstat } from 'node:fs';
import fs, { type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { DiskliftError, errnoOf } from '../common/errors.ts';
import { O_PATH, pathOfDescriptor } from '../common/path-of-descriptor.ts';
import type { Libc } from '../native/libc.ts';
import { kindOf, openError } from './open-error.ts';
import { closeHandle } from './opened-file.ts';

/** The directory at which a volume is mounted, open while files beneath it are looked up. */
export interface VolumeDirectory {
  /** For messages. */
  path: string;
  /**
   * Runs `task` with the directory that has the path now. Concurrent tasks share one descriptor, and the last one
   * closes it. Checking hundreds of files therefore opens the directory once.
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

export interface PathBeneath {
  volume: VolumeDirectory;
  /** Names with slashes between them. */
  relativePath: string;
}

/**
 * Opens a regular file for reading. Refuses other kinds without opening them: opening alone would wake the writer of a
 * FIFO, or rewind a tape.
 * @throws DiskliftError `InvalidRequest` for a path that leaves the volume, crosses a symbolic link or ends at no
 * regular file, `SourceNotFound`, `SourcePermissionDenied`, `SourceReadError`
 */
export function openBeneath(libc: Libc | undefined, place: PathBeneath): Promise<FileHandle> {
  return within(place, async (directory, parts) => {
    await using found = await resolveBeneath(libc, directory, parts);
    const stat = await found.stat();
    if (!stat.isFile())
      throw new DiskliftError('InvalidRequest', `${nameOf(place)}: is ${kindOf(stat)}, not a disk image (a regular file)`);
    return await fs.open(pathOfDescriptor(found), constants.O_RDONLY | constants.O_NONBLOCK);
  });
}

/**
 * stat(2) of the path, whatever its kind; does not open it.
 * @throws DiskliftError as {@link openBeneath}, except for the file's kind
 */
export function statBeneath(libc: Libc | undefined, place: PathBeneath): Promise<BigIntStats> {
  return within(place, async (directory, parts) => {
    const [name] = parts;
    if (name !== undefined && parts.length === 1) return statEntry(directory, name);
    await using found = await resolveBeneath(libc, directory, parts);
    return await found.stat();
  });
}

/** A name directly in the directory crosses no other component, so one call is enough. */
async function statEntry(directory: FileHandle, name: string): Promise<BigIntStats> {
  const stat = await fs.lstat(`${pathOfDescriptor(directory)}/${name}`, { bigint: true });
  if (stat.isSymbolicLink()) throw new ResolveError('ELOOP');
  return stat;
}

async function within<T>(place: PathBeneath, task: (directory: FileHandle, parts: string[]) => Promise<T>): Promise<T> {
  const parts = partsOf(place.relativePath);
  try {
    return await place.volume.use((directory) => task(directory, parts));
  } catch (error) {
    if (error instanceof DiskliftError) throw error;
    // A link could lead out of the volume, so none is followed.
    if (errnoOf(error) === 'ELOOP')
      throw new DiskliftError(
        'InvalidRequest',
        `${nameOf(place)}: is or lies behind a symbolic link, which is not followed on a volume`,
        error,
      );
    throw openError(nameOf(place), error);
  }
}

function nameOf({ volume, relativePath }: PathBeneath): string {
  return path.join(volume.path, relativePath);
}

function partsOf(relativePath: string): string[] {
  const parts = relativePath.split('/');
  if (parts.some((part) => part === '' || part === '.' || part === '..' || part.includes('\0')))
    throw new DiskliftError('InvalidRequest', `${JSON.stringify(relativePath)} is not a path beneath the volume`);
  return parts;
}

const closeAsync = promisify(close);
const fstatAsync = promisify(fstat);

/** A resolved path: an O_PATH descriptor for fstat(2), which {@link pathOfDescriptor} can open. */
interface ResolvedFile extends AsyncDisposable {
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
class ResolveError extends Error {
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
async function resolveBeneath(libc: Libc | undefined, directory: FileHandle, parts: readonly string[]): Promise<ResolvedFile> {
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
