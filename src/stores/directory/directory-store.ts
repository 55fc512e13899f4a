/** A directory of manifests as a store of requests: the same as the API server is in a cluster. */

import { cancelledError } from '../../common/abortable.ts';
import { DiskliftError, errnoOf, isStoreFailure } from '../../common/errors.ts';
import type { DiskExport, DiskExportStatus } from '../../resource/disk-export.ts';
import { Revisions } from '../../resource/revisions.ts';
import type { Claim, RequestEvent, RequestStore, StoredRequest } from '../contract.ts';
import { DirectoryLock } from './directory-lock.ts';
import { createDirectoryWake } from './directory-wake.ts';
import { ManifestFiles, type ManifestFilesOptions } from './manifest-files.ts';
import { RequestRecords } from './request-records.ts';

export interface DirectoryStoreOptions extends Pick<ManifestFilesOptions, 'directory' | 'clock' | 'warn'> {
  /** How often the directory is looked at where the system does not tell of changes. Default 1 s. */
  pollMs?: number;
  /** As {@link ManifestFilesOptions.settleMs}. Default 1 s. */
  settleMs?: number;
  /** Called each time that the directory could be looked at. */
  onLook?: () => void;
}

export interface DirectoryRequestStore extends RequestStore {
  /** Reason why pending requests cannot run here now: no process can write to the directory, or another process serves it. */
  problem(): string | undefined;
}

/**
 * Requests are files named *.yaml, *.yml and *.json; each one's status is written beside it. A manifest that is being written,
 * or has become unreadable, stays what it was before; one that is gone is a request that was deleted. As in a cluster nothing of
 * a request can be changed but what the resource lets change; other edits are ignored with a warning.
 */
export function createDirectoryStore(options: DirectoryStoreOptions): DirectoryRequestStore {
  return new DirectoryStore({ pollMs: 1000, settleMs: 1000, onLook: () => {}, ...options });
}

class DirectoryStore implements DirectoryRequestStore {
  readonly showsUnclaimed = false;
  private readonly options: Required<DirectoryStoreOptions>;
  private readonly files: ManifestFiles;
  private readonly records: RequestRecords;
  private readonly revisions: Revisions;
  private readonly lock: DirectoryLock;
  /** What this process works on, each with the signal of the lock that it was claimed under. */
  private readonly claims = new Map<string, AbortSignal>();
  /** Keys that somebody should look at, whatever the files say. */
  private readonly due = new Set<string>();
  /** Keys that were wanted while another process had the directory. */
  private readonly refused = new Set<string>();
  private readonly told = new Set<string>();
  /** Problem of the last attempt to acquire the lock. */
  private lockProblem: string | undefined;
  private isWatching = false;
  private wake = () => {};
  private loaded: Promise<void> | undefined;

  constructor(options: Required<DirectoryStoreOptions>) {
    this.options = options;
    this.files = new ManifestFiles(options);
    this.records = new RequestRecords(options.directory);
    this.revisions = new Revisions({ accepted: (key) => this.records.get(key)?.request, clock: options.clock });
    this.lock = new DirectoryLock(options.directory, options.clock);
  }

  async *watch(signal: AbortSignal): AsyncGenerator<string> {
    const { directory, clock, pollMs, settleMs } = this.options;
    const wake = createDirectoryWake(directory, clock);
    this.wake = wake.now;
    this.isWatching = true;
    try {
      while (!signal.aborted) {
        for (const key of await this.look()) {
          if (signal.aborted) return;
          yield key;
        }
        await wake.wait(this.files.isUnsettled ? Math.min(pollMs, settleMs) : pollMs, signal);
      }
    } finally {
      wake.close();
      this.isWatching = false;
      await this.releaseLockIfIdle();
    }
  }

  private async look(): Promise<Iterable<string>> {
    await this.load();
    const changed = await this.files.look();
    if (changed === undefined) {
      // When the directory is back, it may be another.
      this.loaded = undefined;
      return [];
    }
    this.options.onLook();
    const keys = new Set(changed);
    // Of requests that went away while nobody looked, an earlier process has left something, too.
    const candidates = this.files.hasUnread ? changed : [...changed, ...this.records.keys()];
    for (const key of candidates) if (this.files.get(key) === undefined) await this.noticeGone(key, keys);
    if (this.refused.size > 0 && (await this.acquireIfPossible()) !== undefined) {
      for (const key of this.refused) keys.add(key);
      this.refused.clear();
    }
    for (const key of this.due) keys.add(key);
    this.due.clear();
    return keys;
  }

  private async noticeGone(key: string, keys: Set<string>): Promise<void> {
    if (this.records.get(key)?.isTerminating === false) {
      this.records.markTerminating(key);
      keys.add(key);
    }
    await this.dropIfDone(key);
  }

  /** Its manifest is gone, nobody works on it and nothing is held open for it: then nothing is kept of it. */
  private async dropIfDone(key: string): Promise<void> {
    const record = this.records.get(key);
    const isDone = record === undefined ? this.files.get(key) === undefined : record.isTerminating && !record.cleanupPending;
    if (!isDone || this.claims.has(key)) return;
    this.revisions.forget(key);
    if ((await this.acquireIfPossible()) === undefined) return;
    try {
      await this.records.drop(key);
    } catch (error) {
      this.tell(`${key}: its status cannot be removed: ${errnoOf(error) ?? error}`);
      return;
    }
    if (record !== undefined) {
      // There may be a new manifest under the key.
      this.due.add(key);
      this.wake();
    }
    await this.releaseLockIfIdle();
  }

  async get(key: string): Promise<StoredRequest | undefined> {
    await this.load();
    const record = this.records.get(key);
    if (record?.isTerminating) {
      if (!record.cleanupPending) return undefined;
      return { kind: 'request', request: withStatus(record.request, (await this.records.readStatus(key))?.status), isTerminating: true };
    }
    const entry = this.files.get(key);
    if (entry === undefined) return undefined;
    const { request, problem } = this.revisions.of(key, entry.manifest.value);
    if (problem !== undefined && record !== undefined) this.tell(`${entry.fileName}: ${problem}`);
    const found = await this.records.readStatus(key);
    if (request === undefined) return { kind: 'invalid', message: `${entry.fileName}: ${problem}`, status: found?.status };
    // A status without a UID is of a manifest that was invalid before.
    const isOfThis = record !== undefined || found?.uid === request.metadata.uid;
    return { kind: 'request', request: withStatus(request, isOfThis ? found?.status : undefined), isTerminating: false };
  }

  async claim(key: string): Promise<Claim | undefined> {
    const lost = await this.acquire();
    if (this.claims.has(key)) return undefined;
    if (lost === undefined) {
      this.refused.add(key);
      return undefined;
    }
    this.claims.set(key, lost);
    let isReleased = false;
    return {
      lost,
      assertHeld: async () => {
        if (isReleased || lost.aborted) throw new DiskliftError('ExecutorLost', `the claim on ${key} is not held any more`);
        await this.lock.assertHeld();
      },
      release: async () => {
        if (isReleased) return;
        isReleased = true;
        this.claims.delete(key);
        await this.dropIfDone(key);
        await this.releaseLockIfIdle();
      },
    };
  }

  /** Also keeps the request as it is accepted by this. @throws DiskliftError `ExecutorLost` when somebody else may write it by now */
  async writeStatus(key: string, status: DiskExportStatus): Promise<void> {
    await this.mayWrite(key);
    const record = this.records.get(key);
    const value = record?.isTerminating ? undefined : this.files.get(key)?.manifest.value;
    if (value === undefined) {
      // It is gone; of one that was never accepted nobody wants to know.
      if (record !== undefined) await this.records.writeStatus(record.request.metadata, status);
      return;
    }
    const { request } = this.revisions.of(key, value);
    if (request !== undefined) await this.records.keep(key, { cleanupPending: false, ...record, request, isTerminating: false });
    const [namespace = '', name = ''] = key.split('/');
    await this.records.writeStatus(request?.metadata ?? { namespace, name }, status);
  }

  async setCleanupPending(key: string, cleanupPending: boolean): Promise<void> {
    await this.mayWrite(key);
    const value = this.files.get(key)?.manifest.value;
    const request = value === undefined ? undefined : this.revisions.of(key, value).request;
    const record = this.records.get(key) ?? { request, isTerminating: false };
    if (record.request !== undefined) await this.records.keep(key, { ...record, request: record.request, cleanupPending });
    await this.dropIfDone(key);
  }

  async remove(key: string): Promise<void> {
    await this.mayWrite(key);
    try {
      await this.files.remove(key);
    } catch (error) {
      if (error instanceof DiskliftError) throw error;
      throw new DiskliftError('InvalidRequest', `${key}: its manifest cannot be removed: ${errnoOf(error) ?? error}`, error);
    }
    this.records.markTerminating(key);
    this.due.add(key);
    await this.dropIfDone(key);
    this.wake();
  }

  resolve: RequestStore['resolve'] = (reference) => this.files.resolve(reference);

  async recordEvent(key: string, { reason, message }: RequestEvent): Promise<void> {
    // What becomes of an export that is run here is in the log already, with more to it.
    if (!this.claims.has(key)) this.options.warn(`${reason}: ${message}`, key);
  }

  private load(): Promise<void> {
    this.loaded ??= this.records.load();
    return this.loaded;
  }

  /**
   * @returns a signal that is aborted when another process takes the directory over; undefined while another process holds it
   * @throws DiskliftError `StoreRefused` or `StoreUnavailable` when no process can hold it
   */
  private async acquire(): Promise<AbortSignal | undefined> {
    if (this.lock.isHeld) return this.lock.acquire();
    const lost = await this.tryLock();
    // Whoever had it before may have written.
    if (lost !== undefined) this.loaded = this.records.load();
    await this.load();
    return lost;
  }

  /** @throws DiskliftError `StoreRefused` or `StoreUnavailable` when no process can hold the directory */
  private async tryLock(): Promise<AbortSignal | undefined> {
    const { directory } = this.options;
    try {
      const lost = await this.lock.acquire();
      const isRefused = lost === undefined;
      this.lockProblem = isRefused ? `${directory}: ${this.lock.holder} serves it; requests wait here until that process ends` : undefined;
      if (isRefused) this.tell(this.lockProblem ?? '');
      return lost;
    } catch (error) {
      if (!isStoreFailure(error)) throw error;
      this.lockProblem = error.message;
      this.tell(error.message);
      throw error;
    }
  }

  /** Undefined also where no process can hold the directory; `problem` gives the reason. */
  private async acquireIfPossible(): Promise<AbortSignal | undefined> {
    try {
      return await this.acquire();
    } catch (error) {
      if (!isStoreFailure(error)) throw error;
      return undefined;
    }
  }

  problem(): string | undefined {
    return this.lockProblem;
  }

  /** @throws DiskliftError `ExecutorLost` when another process may write, `StoreRefused` or `StoreUnavailable` when none can */
  private async mayWrite(key: string): Promise<void> {
    const claimed = this.claims.get(key);
    const lost = await this.acquire();
    if (lost === undefined) throw new DiskliftError('ExecutorLost', 'another process has the directory of requests');
    if (claimed !== undefined && claimed !== lost) throw cancelledError(claimed);
    try {
      await this.lock.assertHeld();
    } catch (error) {
      // The directory may be another by now; for those who work on nothing there that makes no difference.
      if (claimed !== undefined || (await this.acquireIfPossible()) === undefined) throw error;
    }
  }

  private async releaseLockIfIdle(): Promise<void> {
    if (!this.isWatching && this.claims.size === 0) await this.lock.release();
  }

  private tell(message: string): void {
    if (this.told.has(message)) return;
    this.told.add(message);
    this.options.warn(message);
  }
}

function withStatus(request: DiskExport, status: DiskExportStatus | undefined): DiskExport {
  return status === undefined ? request : { ...request, status };
}
