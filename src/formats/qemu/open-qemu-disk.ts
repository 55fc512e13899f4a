/** A disk in a format that QEMU knows, read through QEMU. */

import path from 'node:path';
import type { Clock } from '../../common/clock.ts';
import { DiskliftError, errnoOf } from '../../common/errors.ts';
import { withinLimit } from '../../common/within-limit.ts';
import type { DiskSource } from '../../sources/contract.ts';
import { type NbdLimits, openNbdDisk } from '../../sources/nbd/nbd-disk.ts';
import { fileKey } from '../../sources/opened-file.ts';
import type { ImageFile, ImageTree } from '../image-tree.ts';
import { factsOf, type ImageFiles } from '../open-image-files.ts';
import { identityOfFiles } from '../tree-files.ts';
import { findForeignFile } from './foreign-files.ts';
import { openInherited } from './made-files.ts';
import { createNodeGraph, DISK_NODE } from './node-graph.ts';
import { makePrivateDirectory } from './private-directory.ts';
import { type QemuChild, startQemu } from './qemu-child.ts';
import { qemuFailure } from './qemu-failure.ts';
import { FIRST_FILE_FD } from './qemu-script.ts';

export interface OpenQemuDiskOptions {
  clock: Clock;
  /** For opening alone. */
  signal: AbortSignal;
  limits?: Partial<NbdLimits> | undefined;
}

/** To open a chain of many files may take slow storage its time. */
const LIMITS: Partial<NbdLimits> = { connectMs: 60_000 };

/** The one that it listens on, ours, and its standard error. */
const SOCKET_COUNT = 3;

/** How long a child whose connection has broken may take to say why. */
const LAST_WORDS_MS = 2000;

/**
 * Reads the disk of `image`, which the source owns from now on; where there is none, it is still the caller's.
 * @throws DiskliftError `FormatUnsupported` where QEMU is not installed or cannot read it, `SourceReadError`, `SourceChanged`, `Cancelled`
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
    // What was found in the files holds for what QEMU has opened.
    await identityOfFiles(files);
    requireStatedSize(root, disk);
    return { disk, child };
  } catch (error) {
    const failure = disk === undefined ? await explain(error, child, { root, clock, signal }) : error;
    await Promise.all([disk?.dispose(), child.kill(clock)]);
    throw failure;
  }
}

/** @returns what the child has said, where it has ended and so broken the connection */
async function explain(
  error: unknown,
  { ended }: QemuChild,
  { root, clock, signal }: Pick<ImageTree, 'root'> & Pick<OpenQemuDiskOptions, 'clock' | 'signal'>,
): Promise<unknown> {
  const late = () => (error instanceof DiskliftError ? error : new DiskliftError('SourceReadError', String(error), error));
  if (signal.aborted) return error;
  return withinLimit(ended, { limitMs: LAST_WORDS_MS, clock, signal, late }).then(
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

/** Looked at when all is open, and before anything is read: from now on QEMU opens nothing more. */
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
