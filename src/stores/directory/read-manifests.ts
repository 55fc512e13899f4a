/** Manifests in files: DiskExports, and the Secrets and ConfigMaps that they refer to. */

import { open, stat } from 'node:fs/promises';
import { type Document, LineCounter, parseAllDocuments } from 'yaml';
import { abortable } from '../../common/abortable.ts';
import { awaitStorage, type StorageWait } from '../../common/await-storage.ts';
import { timestamp } from '../../common/clock.ts';
import { DiskliftError, errnoOf } from '../../common/errors.ts';
import { textWithin } from '../../common/text.ts';
import { type ObjectReference, type ReferenceResolver, referencedObject } from '../../credentials/credentials.ts';
import type { DiskExport } from '../../resource/disk-export.ts';
import { type Fields, isFields } from '../../resource/schema.ts';
import { validateDiskExport } from '../../resource/validate.ts';
import type { RequestStore } from '../contract.ts';

/** One object of a file. Only its kind has been checked. */
export interface Manifest {
  kind: 'DiskExport' | 'Secret' | 'ConfigMap';
  namespace: string;
  /** Empty when the object has no name. */
  name: string;
  value: Fields;
  /** Index of the document in the file, and then the index in each List around the object. */
  place: readonly number[];
}

interface ManifestFile {
  /** For messages. */
  fileName: string;
  /** Receives one line for each ignored object. */
  warn(message: string): void;
}

const KINDS: readonly unknown[] = ['DiskExport', 'Secret', 'ConfigMap'] satisfies Manifest['kind'][];

/**
 * @param text YAML of any number of documents, or JSON
 * @throws DiskliftError `InvalidRequest` for a text that is neither; the message has the line number, and no text of
 * the file
 */
export function readManifests(text: string, { fileName, warn }: ManifestFile): Manifest[] {
  const manifests: Manifest[] = [];
  const collect = (value: unknown, place: readonly number[]): void => {
    const { kind, items, metadata } = isFields(value) ? value : {};
    if (typeof kind === 'string' && kind.endsWith('List') && Array.isArray(items)) {
      for (const [index, item] of items.entries()) collect(item, [...place, index]);
    } else if (isFields(value) && KINDS.includes(kind)) {
      const { namespace, name } = isFields(metadata) ? metadata : {};
      manifests.push({ kind: kind as Manifest['kind'], namespace: textOr(namespace, 'default'), name: textOr(name, ''), value, place });
    } else warn(`${fileName}: an object is ignored: it is no DiskExport, Secret or ConfigMap`);
  };
  for (const [index, document] of parse(text, fileName).entries()) {
    const value = toValue(document, fileName);
    if (value !== null && value !== undefined) collect(value, [index]);
  }
  return manifests;
}

function parse(text: string, fileName: string): Document[] {
  const lines = new LineCounter();
  // prettyErrors would quote lines of the file, which may be those of a Secret.
  const documents = parseAllDocuments(text, { merge: true, prettyErrors: false, logLevel: 'silent', lineCounter: lines });
  const [error] = [...documents].flatMap((document) => document.errors);
  if (error === undefined) return [...documents];
  throw new DiskliftError('InvalidRequest', `${fileName}: line ${lines.linePos(error.pos[0]).line}: is not YAML (${error.code})`);
}

function toValue(document: Document, fileName: string): unknown {
  try {
    return document.toJS({ maxAliasCount: 100 });
  } catch {
    // The error has no cause, because the cause may quote the file.
    throw new DiskliftError('InvalidRequest', `${fileName}: its aliases lead nowhere, or too far`);
  }
}

/** @returns the text without the object at `place`; undefined when nothing is left */
export function withoutManifest(text: string, place: readonly number[]): string | undefined {
  const documents = [...parseAllDocuments(text)] as Document[];
  const [index = 0, ...items] = place;
  const document = documents[index];
  if (document === undefined) return text;
  const path = items.flatMap((item) => ['items', item]);
  if (path.length > 0) document.deleteIn(path);
  if (path.length === 0 || readManifests(String(document), { fileName: '', warn: () => {} }).length === 0) documents.splice(index, 1);
  const rest = documents.filter((kept) => kept.toJS() !== null);
  for (const [position, { directives }] of rest.entries()) if (directives !== undefined) directives.docStart = position > 0 || null;
  return rest.length === 0 ? undefined : rest.map(String).join('');
}

/** Resolves references to Secrets and ConfigMaps among the manifests of the same file. */
export function createManifestResolver(manifests: readonly Manifest[]): ReferenceResolver['resolve'] {
  return async (reference) => {
    const manifest = manifests.find((candidate) => isReferredTo(candidate, reference));
    return manifest === undefined ? undefined : referencedObject(manifest);
  };
}

export function isReferredTo({ kind, namespace, name }: Manifest, reference: ObjectReference): boolean {
  return kind === reference.kind && namespace === reference.namespace && name === reference.name;
}

function textOr(value: unknown, otherwise: string): string {
  return typeof value === 'string' ? value : otherwise;
}

export interface RequestFile {
  request: DiskExport;
  /** Finds the Secrets and ConfigMaps of the same file. */
  resolve: RequestStore['resolve'];
}

/** No manifest is larger. A user who names an image by mistake should not wait until it is read. */
const MAX_FILE_BYTES = 1024 * 1024;

const STANDARD_INPUT = '-';

export interface RequestFileOptions extends StorageWait {
  /** Receives one line for each ignored object. */
  warn(message: string): void;
  /** Replaces the manifest's name. */
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

/**
 * Fills in what the API server would. A generated name ends in the time, and not in random characters, so that users
 * find it again.
 */
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
    // The time limit is for storage. A process that writes to a pipe may be slow.
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
