/**
 * Files that a directory store writes beside the manifests: `NAME.status.yaml` for users, and `.NAME.accepted.json`
 * with the accepted request, which distinguishes an edit of the manifest from another request.
 */

import { createHash } from 'node:crypto';
import fs from 'node:fs/promises';
import path from 'node:path';
import { parse, stringify } from 'yaml';
import { writeDurably } from '../../common/durable-file.ts';
import { DiskliftError } from '../../common/errors.ts';
import type { DiskExport, DiskExportStatus } from '../../resource/disk-export.ts';
import { type Fields, isFields } from '../../resource/schema.ts';
import { validateDiskExport, validateStatus } from '../../resource/validate.ts';
import { directoryError } from './directory-files.ts';
import { keyOf } from './manifest-files.ts';

export interface RequestRecord {
  /** The accepted request without its status. Its generation grows with each accepted change. */
  request: DiskExport;
  /** An upload is open at a destination. */
  cleanupPending: boolean;
  /** The manifest was removed. A new manifest under the same key is another request. */
  isTerminating: boolean;
}

interface Names {
  status: string;
  accepted: string;
}

const STATUS_MODE = 0o644;
/** A request may have a presigned URL in it. */
const ACCEPTED_MODE = 0o600;
const ACCEPTED_NAME = /^\..*\.accepted\.json$/;

/** A file name has at most 255 bytes, and suffixes are appended to the base. */
const MAX_BASE_CHARACTERS = 200;

export class RequestRecords {
  private readonly directory: string;
  private readonly records = new Map<string, RequestRecord>();
  private readonly bases = new Map<string, string>();

  constructor(directory: string) {
    this.directory = directory;
  }

  get(key: string): RequestRecord | undefined {
    return this.records.get(key);
  }

  keys(): Iterable<string> {
    return this.records.keys();
  }

  /** Reads the records of earlier processes. A malformed record is ignored. */
  async load(): Promise<void> {
    const names = await fs.readdir(this.directory).catch(() => undefined);
    if (names === undefined) return;
    const found: [string, RequestRecord | undefined][] = [];
    for (const name of names) if (ACCEPTED_NAME.test(name)) found.push([name, await this.readRecord(name)]);
    this.records.clear();
    this.bases.clear();
    for (const [name, record] of found) {
      if (record === undefined) continue;
      const key = keyOf(record.request.metadata);
      this.records.set(key, record);
      this.bases.set(key, name.slice(1, -'.accepted.json'.length));
    }
  }

  /** @returns the status and the UID of its request; undefined when the status is missing or malformed */
  async readStatus(key: string): Promise<{ status: DiskExportStatus; uid: unknown } | undefined> {
    const { status: name } = await this.namesOf(key);
    const { status, metadata } = (await this.readYaml(name)) ?? {};
    try {
      return status === undefined ? undefined : { status: validateStatus(status), uid: isFields(metadata) ? metadata.uid : undefined };
    } catch (error) {
      if (error instanceof DiskliftError) return undefined;
      throw error;
    }
  }

  /**
   * @param metadata of the request of this status
   * @throws DiskliftError `StoreRefused`, not retryable, for a status that the schema does not accept: it could not be
   * read back
   */
  async writeStatus(metadata: { name: string; namespace: string; uid?: string }, status: DiskExportStatus): Promise<void> {
    const { name, namespace, uid } = metadata;
    requireConforming(status);
    const document = { apiVersion: 'disklift.dev/v1alpha1', kind: 'DiskExport', metadata: { name, namespace, uid }, status };
    // JSON drops fields that are undefined.
    const text = stringify(JSON.parse(JSON.stringify(document)), { lineWidth: 0 });
    await this.write((await this.namesOf(keyOf(metadata))).status, { text, mode: STATUS_MODE });
  }

  async keep(key: string, record: RequestRecord): Promise<void> {
    const text = fileText(record);
    const before = this.records.get(key);
    const isNew = before === undefined || fileText(before) !== text;
    this.records.set(key, record);
    if (!isNew) return;
    try {
      await this.write((await this.namesOf(key)).accepted, { text, mode: ACCEPTED_MODE });
    } catch (error) {
      // Otherwise the next call would skip a record that no file holds.
      if (this.records.get(key) === record) this.forgetKept(key, before);
      throw error;
    }
  }

  private forgetKept(key: string, before: RequestRecord | undefined): void {
    if (before === undefined) this.records.delete(key);
    else this.records.set(key, before);
  }

  /** In memory only: another process may hold the lock and write the files. */
  markTerminating(key: string): void {
    const record = this.records.get(key);
    if (record !== undefined) this.records.set(key, { ...record, isTerminating: true });
  }

  async drop(key: string): Promise<void> {
    const { status, accepted } = await this.namesOf(key);
    this.records.delete(key);
    this.bases.delete(key);
    for (const name of [status, accepted]) await fs.rm(path.join(this.directory, name), { force: true });
  }

  private async write(name: string, content: { text: string; mode: number }): Promise<void> {
    try {
      await writeDurably(path.join(this.directory, name), content);
    } catch (error) {
      throw directoryError(path.join(this.directory, name), error);
    }
  }

  /** If two namespaces have a request of one name, the first request has the short file names. */
  private async namesOf(key: string): Promise<Names> {
    if (!this.bases.has(key)) {
      const [namespace = '', name = ''] = key.split('/');
      const candidates = [shortened(name), shortened(`${namespace}.${name}`), shortened(`${namespace}.${name}`, true)];
      const owners = await Promise.all(candidates.map((base) => this.ownerOf(base)));
      // No await from here on: two keys must not find the same name free.
      const taken = new Set(this.bases.values());
      const own = candidates.find((_, index) => owners[index] === key);
      const free = candidates.find((base, index) => owners[index] === undefined && !taken.has(base));
      this.bases.set(key, own ?? free ?? (candidates.at(-1) as string));
    }
    const base = this.bases.get(key) as string;
    return { status: `${base}.status.yaml`, accepted: `.${base}.accepted.json` };
  }

  private async ownerOf(base: string): Promise<string | undefined> {
    const metadata = (await this.readYaml(`${base}.status.yaml`))?.metadata;
    const { name, namespace } = isFields(metadata) ? metadata : {};
    return typeof name === 'string' && typeof namespace === 'string' ? keyOf({ name, namespace }) : undefined;
  }

  private async readYaml(name: string): Promise<Fields | undefined> {
    const text = await fs.readFile(path.join(this.directory, name), 'utf8').catch(() => '');
    try {
      const value: unknown = parse(text, { logLevel: 'silent' });
      return isFields(value) ? value : undefined;
    } catch {
      return undefined;
    }
  }

  private async readRecord(name: string): Promise<RequestRecord | undefined> {
    const { request, cleanupPending, deleting } = (await this.readYaml(name)) ?? {};
    try {
      return { request: validateDiskExport(request), cleanupPending: cleanupPending === true, isTerminating: deleting === true };
    } catch (error) {
      if (error instanceof DiskliftError) return undefined;
      throw error;
    }
  }
}

/** Text of the file. It says `deleting`, because earlier versions read that name. */
function fileText({ request, cleanupPending, isTerminating }: RequestRecord): string {
  return JSON.stringify({ request, cleanupPending, deleting: isTerminating });
}

function requireConforming(status: DiskExportStatus): void {
  try {
    // In the form in which it is written.
    validateStatus(JSON.parse(JSON.stringify(status)));
  } catch (error) {
    if (!(error instanceof DiskliftError)) throw error;
    throw new DiskliftError('StoreRefused', `the schema does not accept the status: ${error.message}`, error, { retryable: false });
  }
}

function shortened(base: string, isMarked = base.length > MAX_BASE_CHARACTERS): string {
  return isMarked ? `${base.slice(0, MAX_BASE_CHARACTERS)}-${createHash('sha256').update(base).digest('hex').slice(0, 16)}` : base;
}
