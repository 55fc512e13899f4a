/** The manifests in a directory, each as it was when its file was last left alone for a while. */

import fs from 'node:fs/promises';
import path from 'node:path';
import type { Clock } from '../../common/clock.ts';
import { DiskliftError, errnoOf } from '../../common/errors.ts';
import type { ObjectReference, ReferencedObject } from '../../credentials/credentials.ts';
import { fileSignature, manifestNames, readUnchanged, writeFileAtomically } from './directory-files.ts';
import { isReferredTo, type Manifest, readManifests, referencedObject, withoutManifest } from './read-manifests.ts';

export interface ManifestFilesOptions {
  directory: string;
  clock: Clock;
  /** So long a file must not have changed before it is believed, and be away before it counts as deleted. */
  settleMs: number;
  /** @param key `NAMESPACE/NAME` of the request that the message is about */
  warn(message: string, key?: string): void;
}

interface WatchedFile {
  /** As it was when last looked at; what cannot be read has its error's text. Undefined while it is away. */
  state: string | undefined;
  /** Since when the state has been that. */
  sinceMs: number;
  /** What `manifests` was read from. */
  believed: string | undefined;
  /** Kept while the file is written to, and when it has become unreadable: neither takes an export back. */
  manifests: readonly Manifest[];
  /** Whether `manifests` was ever read. */
  isRead: boolean;
}

/** A manifest of a DiskExport that counts. */
export interface RequestManifest {
  fileName: string;
  manifest: Manifest;
}

/** Enough for any editor; then somebody goes on and on. */
const MAX_WAITS = 10;

export class ManifestFiles {
  private readonly options: ManifestFilesOptions;
  private readonly files = new Map<string, WatchedFile>();
  private requests: ReadonlyMap<string, RequestManifest> = new Map();
  private readonly told = new Set<string>();
  private isAway = false;

  constructor(options: ManifestFilesOptions) {
    this.options = options;
  }

  get(key: string): RequestManifest | undefined {
    return this.requests.get(key);
  }

  /** Whether files have changed of late, so that the next look is worth while soon. */
  get isUnsettled(): boolean {
    return [...this.files.values()].some(({ state, believed }) => state !== believed);
  }

  /** Whether there is a file of which it is not known what it says, and never was: any request may be in it. */
  get hasUnread(): boolean {
    return [...this.files.values()].some(({ isRead }) => !isRead);
  }

  /** Looks at all files. @returns the keys of the requests that have come, changed or gone; undefined when the directory is away */
  async look(): Promise<string[] | undefined> {
    const { directory, clock } = this.options;
    const names = await manifestNames(directory).catch((error: unknown) => {
      if (!this.isAway) this.options.warn(`${directory}: cannot be read (${errnoOf(error) ?? error}); what was there is kept until it can`);
      this.isAway = true;
      return undefined;
    });
    if (names === undefined) return undefined;
    const nowMs = clock.monotonicMs();
    // Files that are not back at once have not been deleted, either.
    if (this.isAway) for (const file of this.files.values()) file.sinceMs = nowMs;
    this.isAway = false;
    for (const name of names)
      if (!this.files.has(name))
        this.files.set(name, { state: undefined, sinceMs: nowMs, believed: undefined, manifests: [], isRead: false });
    for (const [name, file] of this.files) await this.notice(name, file, nowMs);
    let isChanged = false;
    for (const [name, file] of this.files) if (await this.believeSettled(name, file, nowMs)) isChanged = true;
    // What was in a file that is away may have a new name, or be in another file, which is seen only later where it came while the
    // names were listed: so each file that has changed is read first.
    const mostAwayMs = this.options.settleMs * ([...this.files.values()].some(isToRead) ? MAX_WAITS : 1);
    for (const [name, { state, sinceMs }] of this.files)
      if (state === undefined && nowMs - sinceMs >= mostAwayMs) isChanged = this.files.delete(name);
    return isChanged ? this.index() : [];
  }

  private async notice(name: string, file: WatchedFile, nowMs: number): Promise<void> {
    const state = await fileSignature(this.options.directory, name).catch((error: DiskliftError) => error.message);
    if (state === file.state) return;
    file.state = state;
    file.sinceMs = nowMs;
  }

  /** @returns whether what is believed has changed */
  private async believeSettled(name: string, file: WatchedFile, nowMs: number): Promise<boolean> {
    return isToRead(file) && nowMs - file.sinceMs >= this.options.settleMs && (await this.believe(name, file, file.state));
  }

  private async believe(name: string, file: WatchedFile, state: string): Promise<boolean> {
    try {
      const text = await readUnchanged(this.options.directory, { name, signature: state });
      if (text === undefined) return false;
      // More likely a full disk than a wish.
      if (text.trim() === '' && file.manifests.length > 0) throw new DiskliftError('InvalidRequest', `${name}: is empty`);
      file.manifests = readManifests(text, { fileName: name, warn: (message) => this.tell(message) });
      file.isRead = true;
    } catch (error) {
      if (!(error instanceof DiskliftError)) throw error;
      this.tell(file.manifests.length === 0 ? error.message : `${error.message}; what it said before still counts`);
    }
    file.believed = state;
    return true;
  }

  /** Of two manifests with one key, that which was there first counts. */
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
      // A file that is away may have been renamed to the other.
      else if (other.manifest !== entry.manifest && this.files.get(other.fileName)?.state !== undefined)
        this.tell(`${entry.fileName}: DiskExport ${key} is ignored: ${other.fileName} has it already`);
    }
    const keys = new Set([...this.requests.keys(), ...requests.keys()]);
    const changed = [...keys].filter((key) => textOf(this.requests.get(key)) !== textOf(requests.get(key)));
    this.requests = requests;
    return changed;
  }

  /** Without a name there is nowhere to write what is wrong with it. */
  private hasKey(fileName: string, { kind, namespace, name }: Manifest): boolean {
    if (kind !== 'DiskExport') return false;
    const isName = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/.test(name) && /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(namespace);
    if (!isName) this.tell(`${fileName}: a DiskExport is ignored: its name or namespace is missing or not allowed`);
    return isName;
  }

  /** Says a thing once. */
  private tell(message: string): void {
    if (this.told.has(message)) return;
    this.told.add(message);
    this.options.warn(message);
  }

  /** Takes a request out of its file, and the file away when nothing else is in it. */
  async remove(key: string): Promise<void> {
    const entry = this.requests.get(key);
    if (entry === undefined) return;
    const { fileName, manifest } = entry;
    const file = path.join(this.options.directory, fileName);
    const believed = this.files.get(fileName)?.believed ?? '';
    const text = await readUnchanged(this.options.directory, { name: fileName, signature: believed });
    if (text === undefined)
      throw new DiskliftError('InvalidRequest', `${fileName}: is being changed, so ${key} is not removed from it now`);
    const rest = withoutManifest(text, manifest.place);
    if (rest === undefined) {
      await fs.unlink(file);
      this.files.delete(fileName);
    } else {
      await writeFileAtomically(file, { text: rest, mode: (await fs.stat(file)).mode & 0o777 });
      const state = await fileSignature(this.options.directory, fileName);
      const manifests = readManifests(rest, { fileName, warn: () => {} });
      this.files.set(fileName, { state, sinceMs: this.options.clock.monotonicMs(), believed: state, manifests, isRead: true });
    }
    this.index();
  }

  /**
   * Reads a Secret or a ConfigMap now.
   * @throws DiskliftError `CredentialsInvalid` where what is there is none
   */
  async resolve(reference: ObjectReference): Promise<ReferencedObject | undefined> {
    const { directory } = this.options;
    const names = await manifestNames(directory).catch(() => []);
    // At once: each may have to be waited for.
    const texts = await Promise.all(names.map((name) => this.readSettled(name)));
    for (const [index, fileName] of names.entries()) {
      const text = texts[index];
      // Most files need not be parsed to see that it is not in them.
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
      this.tell(error.message);
      return [];
    }
  }

  /** Half a password is worse than a late one. */
  private async readSettled(name: string): Promise<string | undefined> {
    const { directory, clock, settleMs } = this.options;
    const read = (state: string | undefined) => (state === undefined ? undefined : readUnchanged(directory, { name, signature: state }));
    try {
      let state = await fileSignature(directory, name);
      if (state === this.files.get(name)?.believed) return await read(state);
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

/** Whether it is there, and may say something else than what is believed. */
function isToRead(file: WatchedFile): file is WatchedFile & { state: string } {
  return file.state !== undefined && file.state !== file.believed;
}

/** `NAMESPACE/NAME` */
export function keyOf({ namespace, name }: Pick<Manifest, 'namespace' | 'name'>): string {
  return `${namespace}/${name}`;
}

/** What of a manifest is a request; not its status, which is written elsewhere. */
function textOf(entry: RequestManifest | undefined): string | undefined {
  return entry === undefined ? undefined : JSON.stringify({ ...entry.manifest.value, status: undefined });
}
