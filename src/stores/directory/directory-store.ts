/** A directory of manifests as a store of requests, in place of the API server of a cluster. */

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
  /** Interval between looks at the directory where the system reports no changes. Default 1 s. */
  pollMs?: number;
  /** As {@link ManifestFilesOptions.settleMs}. Default 1 s. */
  settleMs?: number;
  /** Called after each look that could read the directory. */
  onLook?: () => void;
}

export interface DirectoryRequestStore extends RequestStore {
  /** Reason why requests cannot run here now: the directory is not writable, or another process serves it. */
  problem(): string | undefined;
}

/**
 * Requests are files *.yaml, *.yml and *.json; the status is written beside each. While a manifest is being written,
 * or is unreadable, its last readable content counts. A removed manifest is a deleted request. Edits of fields that
 * a cluster would refuse are ignored with a warning.
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
  /** Claimed keys, each with the signal of the lock under which it was claimed. */
  private readonly claims = new Map<string, AbortSignal>();
  /** Keys that the next look yields even if no file has changed. */
  private readonly due = new Set<string>();
  /** Keys whose claim failed because another process had the directory. */
  private readonly refused = new Set<string>();
  private readonly warned = new Set<string>();
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
      // A directory that comes back may be another one.
      this.loaded = undefined;
      return [];
    }
    this.options.onLook();
    const keys = new Set(changed);
    // An earlier process may have left records of requests that were removed while no process looked.
    const candidates = this.files.hasUnread ? changed : [...changed, ...this.records.keys()];
    for (const key of candidates) if (this.files.get(key) === undefined) await this.noticeRemoved(key, keys);
    if (this.refused.size > 0 && (await this.acquireIfPossible()) !== undefined) {
      for (const key of this.refused) keys.add(key);
      this.refused.clear();
    }
    for (const key of this.due) keys.add(key);
    this.due.clear();
    return keys;
  }

  private async noticeRemoved(key: string, keys: Set<string>): Promise<void> {
    if (this.records.get(key)?.isTerminating === false) {
      this.records.markTerminating(key);
      keys.add(key);
    }
    await this.dropIfDone(key);
  }

  /** Drops the record of a request whose manifest was removed, when it has neither a claim nor an open upload. */
  private async dropIfDone(key: string): Promise<void> {
    const record = this.records.get(key);
    const isDone = record === undefined ? this.files.get(key) === undefined : record.isTerminating && !record.cleanupPending;
    if (!isDone || this.claims.has(key)) return;
    this.revisions.forget(key);
    if ((await this.acquireIfPossible()) === undefined) return;
    try {
      await this.records.drop(key);
    } catch (error) {
      this.warnOnce(`${key}: its status cannot be removed: ${errnoOf(error) ?? error}`);
      return;
    }
    if (record !== undefined) {
      // A new manifest may have this key.
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
    if (problem !== undefined && record !== undefined) this.warnOnce(`${entry.fileName}: ${problem}`);
    const found = await this.records.readStatus(key);
    if (request === undefined) return { kind: 'invalid', message: `${entry.fileName}: ${problem}`, status: found?.status };
    // A status without a UID belongs to a manifest that was invalid before.
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

  /** The first status also records the accepted request. @throws as {@link RequestStore} has it */
  async writeStatus(key: string, status: DiskExportStatus): Promise<void> {
    await this.mayWrite(key);
    const record = this.records.get(key);
    const value = record?.isTerminating ? undefined : this.files.get(key)?.manifest.value;
    if (value === undefined) {
      // The manifest was removed. A request that was never accepted needs no status.
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
    // The engine logs what happens to exports of this process, with more detail.
    if (!this.claims.has(key)) this.options.warn(`${reason}: ${message}`, key);
  }

  private load(): Promise<void> {
    this.loaded ??= this.records.load();
    return this.loaded;
  }

  /**
   * @returns a signal that is aborted when another process takes over; undefined while another process holds the lock
   * @throws DiskliftError `StoreRefused` or `StoreUnavailable` when no process can hold it
   */
  private async acquire(): Promise<AbortSignal | undefined> {
    if (this.lock.isHeld) return this.lock.acquire();
    const lost = await this.tryLock();
    // The previous holder may have written records.
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
      if (isRefused) this.warnOnce(this.lockProblem ?? '');
      return lost;
    } catch (error) {
      if (!isStoreFailure(error)) throw error;
      this.lockProblem = error.message;
      this.warnOnce(error.message);
      throw error;
    }
  }

  /** As `acquire`, but undefined also when no process can hold the directory; `problem` has the reason. */
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

  /** @throws `ExecutorLost` when another process may write, `StoreRefused` or `StoreUnavailable` when none can */
  private async mayWrite(key: string): Promise<void> {
    const claimed = this.claims.get(key);
    const lost = await this.acquire();
    if (lost === undefined) throw new DiskliftError('ExecutorLost', 'another process has the directory of requests');
    if (claimed !== undefined && claimed !== lost) throw cancelledError(claimed);
    try {
      await this.lock.assertHeld();
    } catch (error) {
      // The directory may have been replaced. A key without a claim may be written under a new lock.
      if (claimed !== undefined || (await this.acquireIfPossible()) === undefined) throw error;
    }
  }

  private async releaseLockIfIdle(): Promise<void> {
    if (!this.isWatching && this.claims.size === 0) await this.lock.release();
  }

  private warnOnce(message: string): void {
    if (this.warned.has(message)) return;
    this.warned.add(message);
    this.options.warn(message);
  }
}

function withStatus(request: DiskExport, status: DiskExportStatus | undefined): DiskExport {
  return status === undefined ? request : { ...request, status };
}
