/** Opening what lies in a directory of manifests, which may be anything: links, pipes, devices, files without end. */

import { type BigIntStats, constants } from 'node:fs';
import fs from 'node:fs/promises';
import path from 'node:path';
import { MIB } from '../../common/bytes.ts';
import { DiskliftError, errnoOf } from '../../common/errors.ts';
import { O_PATH, pathOfDescriptor } from '../../common/path-of-descriptor.ts';

/** As large as an object may be in a cluster, roughly; nobody writes such a manifest. */
const MAX_MANIFEST_BYTES = MIB;

/** Whether a file of that name is for manifests; those that disklift writes are not. */
function isManifestName(name: string): boolean {
  return /\.(ya?ml|json)$/.test(name) && !name.endsWith('.status.yaml') && !name.startsWith('.');
}

/** The names in order. @throws as readdir does */
export async function manifestNames(directory: string): Promise<string[]> {
  return (await fs.readdir(directory)).filter(isManifestName).sort();
}

/**
 * What changes when the file does. Links are followed within the directory only: mounted ConfigMaps consist of them.
 * @returns undefined when there is no such file
 * @throws DiskliftError `InvalidRequest` for what is no file of a reasonable size
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
 * @returns the text, or undefined where the file is another by now
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

/** Checks the real path of the resolved file, and opens that same file. A link that changes in between has no effect. */
async function openBeneath(directory: string, name: string): Promise<fs.FileHandle> {
  await using root = await fs.open(directory, O_PATH | constants.O_DIRECTORY);
  await using found = await fs.open(`${pathOfDescriptor(root)}/${name}`, O_PATH);
  const [rootPath, foundPath] = await Promise.all([root, found].map((handle) => fs.readlink(pathOfDescriptor(handle))));
  if (foundPath?.startsWith(rootPath === '/' ? '/' : `${rootPath}/`) !== true)
    throw new DiskliftError('InvalidRequest', `${name}: is ignored: it is a link out of the directory`);
  // A pipe would be waited for, and a device does what it likes when it is opened.
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
