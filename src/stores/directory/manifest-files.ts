/**
 * The manifests in a directory, each with the content that its file had when it last stayed unchanged for the settle
 * time.
 */

import fs from 'node:fs/promises';
import path from 'node:path';
import type { Clock } from '../../common/clock.ts';
import { writeDurably } from '../../common/durable-file.ts';
import { DiskliftError, errnoOf } from '../../common/errors.ts';
import { type ObjectReference, type ReferencedObject, referencedObject } from '../../credentials/credentials.ts';
import { fileSignature, manifestNames, readUnchanged } from './directory-files.ts';
import { isReferredTo, type Manifest, readManifests, withoutManifest } from './read-manifests.ts';

export interface ManifestFilesOptions {
  directory: string;
  clock: Clock;
  /**
   * A file is read when it has not changed for this long. It counts as deleted when it has been missing for this long.
   */
  settleMs: number;
  /** @param key `NAMESPACE/NAME` of the request that the message is about */
  warn(message: string, key?: string): void;
}

interface WatchedFile {
  /**
   * Signature of the file at the last look, or the error of an unreadable file. Undefined while the file is missing.
   */
  state: string | undefined;
  /** Time at which the state last changed. */
  sinceMs: number;
  /** The state in which `manifests` was read. */
  readState: string | undefined;
  /** Kept while the file is being written or is unreadable: neither cancels an export. */
  manifests: readonly Manifest[];
  /** Whether the file was ever read. */
  isRead: boolean;
}

/** The manifest of a request. If several manifests have one key, only one is the request. */
export interface RequestManifest {
  fileName: string;
  manifest: Manifest;
}

/** Settle times to wait for a file that keeps changing. An editor needs fewer. */
const MAX_WAITS = 10;

export class ManifestFiles {
  private readonly options: ManifestFilesOptions;
  private readonly files = new Map<string, WatchedFile>();
  private requests: ReadonlyMap<string, RequestManifest> = new Map();
  private readonly warned = new Set<string>();
  private isUnreachable = false;

  constructor(options: ManifestFilesOptions) {
    this.options = options;
  }

  get(key: string): RequestManifest | undefined {
    return this.requests.get(key);
  }

  /** Whether a file has changed and was not read since. The next look should then come soon. */
  get isUnsettled(): boolean {
    return [...this.files.values()].some(({ state, readState }) => state !== readState);
  }

  /** Whether a file was never read. Any request may be in it. */
  get hasUnread(): boolean {
    return [...this.files.values()].some(({ isRead }) => !isRead);
  }

  /**
   * Looks at all files.
   * @returns the keys of requests that were added, changed or removed; undefined when the directory cannot be read
   */
  async look(): Promise<string[] | undefined> {
    const { directory, clock } = this.options;
    const names = await manifestNames(directory).catch((error: unknown) => {
      if (!this.isUnreachable)
        this.options.warn(`${directory}: cannot be read (${errnoOf(error) ?? error}); what was there is kept until it can`);
      this.isUnreachable = true;
      return undefined;
    });
    if (names === undefined) return undefined;
    const nowMs = clock.monotonicMs();
    // After an outage of the directory a missing file gets the full time again before it counts as deleted.
    if (this.isUnreachable) for (const file of this.files.values()) file.sinceMs = nowMs;
    this.isUnreachable = false;
    for (const name of names)
      if (!this.files.has(name))
        this.files.set(name, { state: undefined, sinceMs: nowMs, readState: undefined, manifests: [], isRead: false });
    for (const [name, file] of this.files) await this.notice(name, file, nowMs);
    let isChanged = false;
    for (const [name, file] of this.files) if (await this.readSettledFile(name, file, nowMs)) isChanged = true;
    // A missing file may have been renamed, and this listing may have missed the new name. Do not report a deletion
    // while a changed file is still unread.
    const maxMissingMs = this.options.settleMs * ([...this.files.values()].some(needsReading) ? MAX_WAITS : 1);
    for (const [name, { state, sinceMs }] of this.files)
      if (state === undefined && nowMs - sinceMs >= maxMissingMs) isChanged = this.files.delete(name);
    return isChanged ? this.index() : [];
  }

  private async notice(name: string, file: WatchedFile, nowMs: number): Promise<void> {
    const state = await fileSignature(this.options.directory, name).catch((error: DiskliftError) => error.message);
    if (state === file.state) return;
    file.state = state;
    file.sinceMs = nowMs;
  }

  /** @returns whether the file was read */
  private async readSettledFile(name: string, file: WatchedFile, nowMs: number): Promise<boolean> {
    return needsReading(file) && nowMs - file.sinceMs >= this.options.settleMs && (await this.readFile(name, file, file.state));
  }

  private async readFile(name: string, file: WatchedFile, state: string): Promise<boolean> {
    try {
      const text = await readUnchanged(this.options.directory, { name, signature: state });
      if (text === undefined) return false;
      // A full disk is a more likely cause than a wish to delete all requests.
      if (text.trim() === '' && file.manifests.length > 0) throw new DiskliftError('InvalidRequest', `${name}: is empty`);
      file.manifests = readManifests(text, { fileName: name, warn: (message) => this.warnOnce(message) });
      file.isRead = true;
    } catch (error) {
      if (!(error instanceof DiskliftError)) throw error;
      this.warnOnce(file.manifests.length === 0 ? error.message : `${error.message}; its earlier content still counts`);
    }
    file.readState = state;
    return true;
  }

  /** If two manifests have one key, the earlier one counts. */
  private index(): string[] {
    const requests = new Map<string, RequestManifest>();
    const names = [...this.files.keys()].sort();
    const all = names.flatMap((fileName) => this.files.get(fileName)?.manifests.map((manifest) => ({ fileName, manifest })) ?? []);
    const wanted = all.filter(({ fileName, manifest }) => this.hasKey(fileName, manifest));
    const incumbents = wanted.filter(({ fileName, manifest }) => this.requests.get(keyOf(manifest))?.fileName === fileName);
    for (const entry of [...incumbents, ...wanted]) {
      const key = keyOf(entry.manifest);
      const other = requests.get(key);
      if (other === undefined) requests.set(key, entry);
      // The missing file may have been renamed to the other one.
      else if (other.manifest !== entry.manifest && this.files.get(other.fileName)?.state !== undefined)
        this.warnOnce(`${entry.fileName}: DiskExport ${key} is ignored: ${other.fileName} has it already`);
    }
    const keys = new Set([...this.requests.keys(), ...requests.keys()]);
    const changed = [...keys].filter((key) => textOf(this.requests.get(key)) !== textOf(requests.get(key)));
    this.requests = requests;
    return changed;
  }

  /** A manifest without a valid name cannot be a request: the name of its status file derives from it. */
  private hasKey(fileName: string, { kind, namespace, name }: Manifest): boolean {
    if (kind !== 'DiskExport') return false;
    const isName = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/.test(name) && /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(namespace);
    if (!isName) this.warnOnce(`${fileName}: a DiskExport is ignored: its name or namespace is missing or not allowed`);
    return isName;
  }

  /** Logs each message once. */
  private warnOnce(message: string): void {
    if (this.warned.has(message)) return;
    this.warned.add(message);
    this.options.warn(message);
  }

  /** Removes a request from its file, and the file when nothing else is in it. */
  async remove(key: string): Promise<void> {
    const entry = this.requests.get(key);
    if (entry === undefined) return;
    const { fileName, manifest } = entry;
    const file = path.join(this.options.directory, fileName);
    const readState = this.files.get(fileName)?.readState ?? '';
    const text = await readUnchanged(this.options.directory, { name: fileName, signature: readState });
    if (text === undefined)
      throw new DiskliftError('InvalidRequest', `${fileName}: is being changed, so ${key} is not removed from it now`);
    const rest = withoutManifest(text, manifest.place);
    if (rest === undefined) {
      await fs.unlink(file);
      this.files.delete(fileName);
    } else {
      await writeDurably(file, { text: rest, mode: (await fs.stat(file)).mode & 0o777 });
      const state = await fileSignature(this.options.directory, fileName);
      const manifests = readManifests(rest, { fileName, warn: () => {} });
      this.files.set(fileName, { state, sinceMs: this.options.clock.monotonicMs(), readState: state, manifests, isRead: true });
    }
    this.index();
  }

  /**
   * Reads a Secret or a ConfigMap from the files as they are now.
   * @throws DiskliftError `CredentialsInvalid` or `ReferenceInvalid` for malformed data
   */
  async resolve(reference: ObjectReference): Promise<ReferencedObject | undefined> {
    const { directory } = this.options;
    const names = await manifestNames(directory).catch(() => []);
    // In parallel, because each may have to be waited for.
    const texts = await Promise.all(names.map((name) => this.readSettled(name)));
    for (const [index, fileName] of names.entries()) {
      const text = texts[index];
      // A search for the name saves parsing most files.
      if (!text?.includes(reference.name)) continue;
      const found = this.manifestsIn(text, fileName).find((manifest) => isReferredTo(manifest, reference));
      if (found !== undefined) return referencedObject(found);
    }
    return undefined;
  }

  private manifestsIn(text: string, fileName: string): Manifest[] {
    try {
      return readManifests(text, { fileName, warn: () => {} });
    } catch (error) {
      if (!(error instanceof DiskliftError)) throw error;
      this.warnOnce(error.message);
      return [];
    }
  }

  /** Waits until the file stays unchanged, because a half-written password is worse than a late one. */
  private async readSettled(name: string): Promise<string | undefined> {
    const { directory, clock, settleMs } = this.options;
    const read = (state: string | undefined) => (state === undefined ? undefined : readUnchanged(directory, { name, signature: state }));
    try {
      let state = await fileSignature(directory, name);
      if (state === this.files.get(name)?.readState) return await read(state);
      for (let waits = 0; waits < MAX_WAITS && state !== undefined; waits += 1) {
        await clock.delay(settleMs, new AbortController().signal);
        const later = await fileSignature(directory, name);
        if (later === state) return await read(state);
        state = later;
      }
    } catch (error) {
      if (!(error instanceof DiskliftError)) throw error;
    }
    return undefined;
  }
}

/** Whether the file exists and has changed since it was read. */
function needsReading(file: WatchedFile): file is WatchedFile & { state: string } {
  return file.state !== undefined && file.state !== file.readState;
}

/** `NAMESPACE/NAME` */
export function keyOf({ namespace, name }: Pick<Manifest, 'namespace' | 'name'>): string {
  return `${namespace}/${name}`;
}

/** The manifest without its status, for comparison: the status is written to another file. */
function textOf(entry: RequestManifest | undefined): string | undefined {
  return entry === undefined ? undefined : JSON.stringify({ ...entry.manifest.value, status: undefined });
}
