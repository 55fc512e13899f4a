/** One request out of a file, for `disklift export`. */

import { open, stat } from 'node:fs/promises';
import { abortable } from '../../common/abortable.ts';
import { awaitStorage, type StorageWait } from '../../common/await-storage.ts';
import { DiskliftError, errnoOf } from '../../common/errors.ts';
import { textWithin } from '../../common/text-within.ts';
import type { DiskExport } from '../../resource/disk-export.ts';
import { isFields } from '../../resource/fields.ts';
import { timestamp } from '../../resource/timestamp.ts';
import { validateDiskExport } from '../../resource/validate.ts';
import type { RequestStore } from '../contract.ts';
import { createManifestResolver, readManifests } from './read-manifests.ts';

export interface RequestFile {
  request: DiskExport;
  /** Finds the Secrets and ConfigMaps of the same file. */
  resolve: RequestStore['resolve'];
}

/** Nobody writes a larger manifest; whoever names an image by mistake should not wait for it to be read. */
const MAX_FILE_BYTES = 1024 * 1024;

const STANDARD_INPUT = '-';

export interface RequestFileOptions extends StorageWait {
  /** Takes one line about what is ignored. */
  warn(message: string): void;
  /** In place of the manifest's. */
  name?: string | undefined;
}

/**
 * The request counts as created now.
 * @param file a path, or `-` for standard input
 * @throws DiskliftError `InvalidRequest`; `Cancelled` at once
 */
export async function readRequestFile(file: string, { warn, name, ...wait }: RequestFileOptions): Promise<RequestFile> {
  const fileName = file === STANDARD_INPUT ? 'standard input' : file;
  const manifests = readManifests(await textOf(file, fileName, wait), { fileName, warn });
  const requests = manifests.filter(({ kind }) => kind === 'DiskExport');
  const [first] = requests;
  if (first === undefined) throw new DiskliftError('InvalidRequest', `${fileName}: has no DiskExport`);
  if (requests.length > 1)
    throw new DiskliftError('InvalidRequest', `${fileName}: has more than one DiskExport; export them one by one, or run a sidecar`);
  return { request: validateDiskExport(created(first.value, wait.clock.nowMs(), name)), resolve: createManifestResolver(manifests) };
}

/** As the API server does it; in place of five random characters a generated name ends in the time, so that it can be found again. */
function created(value: unknown, nowMs: number, givenName: string | undefined): unknown {
  if (!isFields(value) || !isFields(value.metadata)) return value;
  const { generateName, ...others } = value.metadata;
  const creationTimestamp = timestamp(nowMs);
  const suffix = creationTimestamp.replaceAll(/[-:]/g, '').toLowerCase();
  const generatedName = typeof generateName === 'string' ? `${generateName}${suffix}` : undefined;
  const name = givenName ?? others.name ?? generatedName;
  return { ...value, metadata: { ...others, ...(name === undefined ? {} : { name }), creationTimestamp } };
}

async function textOf(file: string, fileName: string, wait: StorageWait): Promise<string> {
  try {
    // A pipe's writer may take its time; a file's storage may not.
    const isFile = file !== STANDARD_INPUT && (await awaitStorage(file, stat(file), wait)).isFile();
    const reading = readWhole(file === STANDARD_INPUT ? '/dev/stdin' : file, fileName);
    return await (isFile ? awaitStorage(file, reading, wait) : abortable(reading, wait.signal));
  } catch (error) {
    if (error instanceof DiskliftError) throw error;
    throw new DiskliftError('InvalidRequest', `${fileName}: cannot be read: ${errnoOf(error) ?? String(error)}`, error);
  }
}

/** @throws DiskliftError `InvalidRequest` for a file that is too large; an error of node:fs */
async function readWhole(file: string, fileName: string): Promise<string> {
  await using handle = await open(file);
  const tooLarge = () => new DiskliftError('InvalidRequest', `${fileName}: is larger than 1 MiB, so it is no manifest`);
  return await textWithin(handle.createReadStream({ autoClose: false }), MAX_FILE_BYTES, tooLarge);
}
