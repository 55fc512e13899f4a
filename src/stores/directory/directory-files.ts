/** Files of a directory of requests: read although they may be links, pipes or devices, and their errors typed. */

import { type BigIntStats, constants } from 'node:fs';
import fs from 'node:fs/promises';
import path from 'node:path';
import { MIB } from '../../common/bytes.ts';
import { DiskliftError, errnoOf } from '../../common/errors.ts';
import { O_PATH, pathOfDescriptor } from '../../common/path-of-descriptor.ts';

/** About the limit of an object in a cluster. No manifest is larger. */
const MAX_MANIFEST_BYTES = MIB;

/** Whether a file of this name holds manifests. Files that disklift writes do not. */
function isManifestName(name: string): boolean {
  return /\.(ya?ml|json)$/.test(name) && !name.endsWith('.status.yaml') && !name.startsWith('.');
}

/** The names in order. @throws as readdir does */
export async function manifestNames(directory: string): Promise<string[]> {
  return (await fs.readdir(directory)).filter(isManifestName).sort();
}

/**
 * A text that changes with the file. Links are followed within the directory only: mounted ConfigMaps consist of links.
 * @returns undefined when there is no such file
 * @throws DiskliftError `InvalidRequest` for anything but a file within the size limit
 */
export async function fileSignature(directory: string, name: string): Promise<string | undefined> {
  try {
    const stat = await fs.lstat(path.join(directory, name), { bigint: true });
    if (!stat.isSymbolicLink()) return signatureOf(stat, name);
    await using handle = await openBeneath(directory, name);
    return signatureOf(await handle.stat({ bigint: true }), name);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw typed(error, name);
  }
}

/**
 * @param signature as {@link fileSignature} gave it
 * @returns the text; undefined when the file has changed
 * @throws DiskliftError `InvalidRequest`
 */
export async function readUnchanged(
  directory: string,
  { name, signature }: { name: string; signature: string },
): Promise<string | undefined> {
  try {
    await using handle = await openBeneath(directory, name);
    const isUnchanged = async () => signatureOf(await handle.stat({ bigint: true }), name) === signature;
    if (!(await isUnchanged())) return undefined;
    const text = await handle.readFile('utf8');
    return (await isUnchanged()) ? text : undefined;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw typed(error, name);
  }
}

/**
 * Checks the real path of the resolved file, and opens that same file. A link that changes in between has no effect.
 */
async function openBeneath(directory: string, name: string): Promise<fs.FileHandle> {
  await using root = await fs.open(directory, O_PATH | constants.O_DIRECTORY);
  await using found = await fs.open(`${pathOfDescriptor(root)}/${name}`, O_PATH);
  const [rootPath, foundPath] = await Promise.all([root, found].map((handle) => fs.readlink(pathOfDescriptor(handle))));
  if (foundPath?.startsWith(rootPath === '/' ? '/' : `${rootPath}/`) !== true)
    throw new DiskliftError('InvalidRequest', `${name}: is ignored: it is a link out of the directory`);
  // Opening a pipe would block, and opening a device may have side effects.
  if (!(await found.stat()).isFile()) throw new DiskliftError('InvalidRequest', `${name}: is ignored: it is no file`);
  return await fs.open(pathOfDescriptor(found), constants.O_RDONLY | constants.O_NONBLOCK);
}

function signatureOf(stat: BigIntStats, name: string): string {
  if (!stat.isFile()) throw new DiskliftError('InvalidRequest', `${name}: is ignored: it is no file`);
  if (stat.size > MAX_MANIFEST_BYTES) throw new DiskliftError('InvalidRequest', `${name}: is ignored: it is larger than 1 MiB`);
  return [stat.dev, stat.ino, stat.size, stat.mtimeNs, stat.ctimeNs].join(':');
}

function typed(error: unknown, name: string): DiskliftError {
  return error instanceof DiskliftError
    ? error
    : new DiskliftError('InvalidRequest', `${name}: cannot be read: ${errnoOf(error) ?? error}`, error);
}

/** Errors that an administrator must correct. */
const REFUSALS: Readonly<Record<string, string>> = {
  EROFS: 'it is mounted read-only; mount it writable, because statuses are written beside the manifests',
  EACCES: 'this user may not; give the directory to the user that runs disklift',
  EPERM: 'this user may not; give the directory to the user that runs disklift',
};

const OUTAGES: Readonly<Record<string, string>> = {
  ENOSPC: 'its file system is full; make room',
  EDQUOT: 'the quota is used up; make room',
  ENOENT: 'it is not there; is its volume mounted?',
};

/**
 * @returns `StoreRefused`, or `StoreUnavailable` for a failure that may be temporary; an error without an errno
 * unchanged
 */
export function directoryError(place: string, error: unknown): unknown {
  const errno = errnoOf(error);
  if (errno === undefined) return error;
  const refusal = REFUSALS[errno];
  const why = refusal ?? OUTAGES[errno] ?? 'look at its storage';
  return new DiskliftError(
    refusal === undefined ? 'StoreUnavailable' : 'StoreRefused',
    `${place}: cannot be written to (${errno}): ${why}`,
    error,
  );
}
