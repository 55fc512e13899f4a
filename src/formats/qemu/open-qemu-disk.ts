/** Reads a disk through a child process of QEMU. */

import fs, { type FileHandle, mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import type { Clock } from '../../common/clock.ts';
import { DiskliftError, errnoOf } from '../../common/errors.ts';
import { withinLimit } from '../../common/time-limit.ts';
import type { DiskSource } from '../../sources/contract.ts';
import { type NbdLimits, openNbdDisk } from '../../sources/nbd/nbd-disk.ts';
import { fileKey } from '../../sources/opened-file.ts';
import type { ImageFile, ImageTree } from '../image-file.ts';
import { factsOf, type ImageFiles, identityOfFiles } from '../image-files.ts';
import { createNodeGraph, DISK_NODE, type Inherited } from './node-graph.ts';
import { FIRST_FILE_FD, type QemuChild, qemuFailure, startQemu } from './qemu-child.ts';

export interface OpenQemuDiskOptions {
  clock: Clock;
  /** Aborts the opening only. */
  signal: AbortSignal;
  limits?: Partial<NbdLimits> | undefined;
}

/** Opening a chain of many files on slow storage takes long. */
const LIMITS: Partial<NbdLimits> = { connectMs: 60_000 };

/** The sockets that QEMU has: the listening one, this connection, and its standard error. */
const SOCKET_COUNT = 3;

/** Limit of waiting for the error of a child whose connection has broken. */
const ENDING_LIMIT_MS = 2000;

/**
 * Reads the disk of `image`, which the source owns from now on. After a failure, `image` stays the caller's.
 * @throws DiskliftError `FormatUnsupported` where QEMU is not installed or cannot read it, `SourceReadError`,
 * `SourceChanged`, `Cancelled`
 */
export async function openQemuDisk(image: ImageFiles, options: OpenQemuDiskOptions): Promise<DiskSource> {
  const { disk, child } = await serve(image, options);
  return {
    ...disk,
    ...factsOf(image),
    async dispose() {
      await Promise.all([disk.dispose(), child.kill(options.clock)]);
      await image[Symbol.asyncDispose]();
    },
  };
}

interface Served {
  disk: DiskSource;
  child: QemuChild;
}

async function serve({ root, watched: files }: ImageFiles, options: OpenQemuDiskOptions): Promise<Served> {
  const { clock, signal } = options;
  for (const { file } of files) if (file !== root) requireSizeKnownToQemu(file);
  const blockDevices = new Set(files.filter(({ stat }) => stat.isBlockDevice()).map(({ file }) => file));
  const graph = createNodeGraph(root, { firstFd: FIRST_FILE_FD, isBlockDevice: (file) => blockDevices.has(file) });
  await using directory = await makePrivateDirectory();
  await using opened = await openInherited(graph.inherited, directory.path);
  const start = { disk: graph.disk, fds: opened.handles.map(({ fd }) => fd), socketPath: path.join(directory.path, 'nbd') };
  const { connection, child } = await startQemu(start, (socketPath) =>
    openNbdDisk({ socketPath, exportName: DISK_NODE }, { clock, signal, limits: { ...LIMITS, ...options.limits }, name: root.name }),
  );
  let disk: DiskSource | undefined;
  try {
    disk = await connection;
    const made = await Promise.all(opened.made.map((handle) => handle.stat({ bigint: true })));
    await requireOwnFiles(root.name, child, new Set([...files.map(({ stat }) => stat), ...made].map(fileKey)));
    // The files that QEMU has opened are unchanged since they were looked into.
    await identityOfFiles(files);
    requireStatedSize(root, disk);
    return { disk, child };
  } catch (error) {
    const failure = disk === undefined ? await explain(error, child, { root, clock, signal }) : error;
    await Promise.all([disk?.dispose(), child.kill(clock)]);
    throw failure;
  }
}

/** @returns the child's own error, where it has ended and so broken the connection */
async function explain(
  error: unknown,
  { ended }: QemuChild,
  { root, clock, signal }: Pick<ImageTree, 'root'> & Pick<OpenQemuDiskOptions, 'clock' | 'signal'>,
): Promise<unknown> {
  const late = () => (error instanceof DiskliftError ? error : new DiskliftError('SourceReadError', String(error), error));
  if (signal.aborted) return error;
  return withinLimit(ended, { limitMs: ENDING_LIMIT_MS, clock, signal, late }).then(
    (ending) => qemuFailure(root.name, root.format, ending),
    (reason: unknown) => reason,
  );
}

/** QEMU does not report the size of a VHD that is a backing file, so a wrong size would stay unnoticed. */
function requireSizeKnownToQemu({ name, vpc }: ImageFile): void {
  if (vpc?.kind !== 'dynamic' || vpc.isSizeUndisputed) return;
  throw new DiskliftError(
    'FormatUnsupported',
    `${name}: is a dynamic VHD behind another image, and QEMU before version 10 would leave out its end; convert it by disklift stream -f vpc, then name the new file by qemu-img rebase -u`,
  );
}

/** QEMU computes the size of some disks in another way. */
function requireStatedSize({ name, diskSizeBytes, format }: ImageFile, { sizeBytes }: DiskSource): void {
  if (diskSizeBytes === undefined || diskSizeBytes === sizeBytes) return;
  throw new DiskliftError(
    'FormatUnsupported',
    `${name}: states a disk of ${diskSizeBytes} bytes, and QEMU serves ${sizeBytes} of it as ${format}; use another version of QEMU, or convert the image`,
  );
}

/** Called when QEMU has opened everything, before the first read: from now on QEMU opens nothing more. */
async function requireOwnFiles(name: string, { processId }: QemuChild, allowed: ReadonlySet<string>): Promise<void> {
  let foreign: string | undefined;
  try {
    foreign = await findForeignFile({ processId: (await processId) ?? 0, allowed, socketCount: SOCKET_COUNT });
  } catch (error) {
    throw new DiskliftError('SourceReadError', `${name}: cannot see what QEMU has open: ${errnoOf(error) ?? error}`, error);
  }
  if (foreign !== undefined)
    throw new DiskliftError('SourceChanged', `${name}: names another file or server than when it was looked at, and QEMU has opened it`);
}

interface OpenedByProcess {
  processId: number;
  /** Keys of the files that it may have open, by {@link fileKey}. */
  allowed: ReadonlySet<string>;
  /** Number of sockets that it may have beside those of this process. */
  socketCount: number;
}

/** Node closes its inherited descriptors on exec up to this number. A child inherits others under the same number. */
const LAST_CLOSED_FD = 15;

/**
 * Finds a file that a process must not have open. A writer of an image may have put a name into it after disklift had
 * looked.
 * @returns the file's name in /proc, or 'a connection'; undefined when the process has no such file
 * @throws Error with an errno when /proc does not show the process
 */
async function findForeignFile({ processId, allowed, socketCount }: OpenedByProcess): Promise<string | undefined> {
  let sockets = 0;
  for (const fd of await fs.readdir(`/proc/${processId}/fd`)) {
    const path = `/proc/${processId}/fd/${fd}`;
    const stat = await fs.stat(path, { bigint: true }).catch(() => undefined);
    // The descriptor was closed since, or has no file (an eventfd).
    if (stat === undefined || !(stat.isFile() || stat.isBlockDevice() || stat.isDirectory() || stat.isSocket())) continue;
    if (allowed.has(fileKey(stat)) || (Number(fd) > LAST_CLOSED_FD && (await isOurs(fd, fileKey(stat))))) continue;
    if (!stat.isSocket()) return fs.readlink(path);
    sockets += 1;
    if (sockets > socketCount) return 'a connection';
  }
  return undefined;
}

async function isOurs(fd: string, key: string): Promise<boolean> {
  const stat = await fs.stat(`/proc/self/fd/${fd}`, { bigint: true }).catch(() => undefined);
  return stat !== undefined && fileKey(stat) === key;
}

// Files that exist for QEMU alone. They have no name by the time that QEMU opens them.

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
async function makePrivateDirectory(): Promise<PrivateDirectory> {
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
async function openInherited(inherited: readonly Inherited[], directory: string): Promise<InheritedHandles> {
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
