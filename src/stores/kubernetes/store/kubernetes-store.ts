/**
 * The API server as a store of requests: the DiskExports of a namespace. The holder of its Lease works on a DiskExport.
 */

import { type Clock, timestamp } from '../../../common/clock.ts';
import { DiskliftError } from '../../../common/errors.ts';
import type { DiskExportStatus } from '../../../resource/disk-export.ts';
import { fitStatus } from '../../../resource/status.ts';
import type { Claim, RequestEvent, RequestStore, StoredRequest } from '../../contract.ts';
import type { WorkQueue } from '../cache/work-queue.ts';
import { isApiFailure } from '../client/api-failure.ts';
import type { KubeApi, MergePatch, Reflector } from '../client/contract.ts';
import type { ExportObject } from '../client/objects.ts';
import { createLeaseClaims, type LeaseClaims, type LeaseClaimsOptions } from '../leases/lease-claims.ts';
import {
  changeExport,
  createKnownExports,
  hasFinalizer,
  isFinished,
  isTerminating,
  type KnownExports,
  keyOf,
  leaseTargetOf,
  setFinalizer,
  statusOf,
  storedRequestOf,
} from './export-object.ts';
import { createStatusQueue, type StatusQueue, statusPatch } from './status-queue.ts';

export interface KubernetesStoreOptions extends Pick<LeaseClaimsOptions, 'times' | 'random' | 'ending' | 'holder' | 'self'> {
  api: KubeApi;
  reflector: Pick<Reflector, 'get'>;
  /**
   * Aborted when the process must end. A release then also removes the finalizer, so that the object can be deleted.
   */
  stopping: AbortSignal;
  /** Receives the keys of objects that were added, changed or removed. */
  queue: WorkQueue;
  clock: Clock;
  executor: NonNullable<DiskExportStatus['executor']>;
  resolve: RequestStore['resolve'];
  /** Never fails. */
  postEvent(object: ExportObject, event: RequestEvent): Promise<void>;
  warn(message: string, key?: string): void;
}

export interface KubernetesStore extends RequestStore {
  /** Whether a finalizer of this process keeps an object from being deleted. */
  holdsBack(): boolean;
  /**
   * The namespace is being deleted: cancels the exports with a finalizer, and removes the finalizers even when an
   * upload is still open.
   */
  leaveNamespace(): Promise<void>;
  /** Removes the finalizers of this process, so that none outlives it. No claim may follow. */
  close(): Promise<void>;
}

/** An export that this process works on. */
interface Held {
  object: ExportObject;
  claim: Claim;
  statuses: StatusQueue;
}

/** How long a destination has to drop an upload in a namespace that is being deleted. */
const LEAVE_MS = 2000;

export function createKubernetesStore(options: KubernetesStoreOptions): KubernetesStore {
  return new ApiServerStore(options);
}

class ApiServerStore implements KubernetesStore {
  readonly showsUnclaimed = true;
  readonly resolve: RequestStore['resolve'];
  private readonly options: KubernetesStoreOptions;
  private readonly known: KnownExports;
  private readonly leases: LeaseClaims;
  private readonly held = new Map<string, Held>();
  /** Objects with the finalizer: this process added it, or found it when it claimed the object. */
  private readonly guarded = new Map<string, ExportObject>();
  /** UIDs of the guarded objects when the deletion of the namespace began; undefined before. */
  private leaving: ReadonlySet<string> | undefined;
  /** Objects whose Lease another process held at the last look. */
  private readonly refused = new Map<string, ExportObject>();

  constructor(options: KubernetesStoreOptions) {
    this.options = options;
    this.resolve = options.resolve;
    this.known = createKnownExports(options.reflector);
    this.leases = createLeaseClaims({ ...options, leases: options.api.leases });
  }

  watch(signal: AbortSignal): AsyncIterable<string> {
    return this.options.queue.take(signal);
  }

  async get(key: string): Promise<StoredRequest | undefined> {
    const object = this.known.get(key);
    this.forgetWhatIsGone(key, object);
    const held = this.held.get(key);
    // A new object under the name of a held one is another request. It is shown after the release.
    if (object === undefined || (held !== undefined && held.object.metadata.uid !== object.metadata.uid)) return undefined;
    held?.statuses.observe(object.metadata.generation);
    if (held === undefined && isTerminating(object) && hasFinalizer(object)) await this.sight(key, object);
    const isLeft = this.leaving?.has(object.metadata.uid) ?? false;
    if (isLeft && !hasFinalizer(object)) return undefined;
    const stored = storedRequestOf(object);
    if (stored?.kind === 'invalid' && isTerminating(object)) {
      await setFinalizer(this.options.api.exports, object, false);
      return undefined;
    }
    return isLeft && stored?.kind === 'request' ? { ...stored, isTerminating: true } : stored;
  }

  /**
   * Starts the expiry time of a dead holder's Lease at the deletion, and not only at the first try to claim the export.
   */
  private async sight(key: string, object: ExportObject): Promise<void> {
    this.refused.set(key, object);
    // Without an answer the time starts at the next look.
    await this.leases.sight(leaseTargetOf(object)).catch(() => {});
  }

  private forgetWhatIsGone(key: string, object: ExportObject | undefined): void {
    const refused = this.refused.get(key);
    if (refused !== undefined && refused.metadata.uid !== object?.metadata.uid) {
      this.leases.forget(leaseTargetOf(refused));
      this.refused.delete(key);
    }
    if (this.guarded.get(key)?.metadata.uid !== object?.metadata.uid) this.guarded.delete(key);
  }

  async claim(key: string): Promise<Claim | undefined> {
    const object = this.known.get(key);
    if (object === undefined || this.held.has(key)) return undefined;
    const claim = await this.leases.acquire(leaseTargetOf(object));
    if (claim === undefined) return this.lookAgain(key, object);
    let current: ExportObject | undefined;
    try {
      current = await this.recordExecutor(object);
    } finally {
      if (current === undefined) await claim.release();
    }
    if (current === undefined) return this.lookAgain(key, object);
    this.known.learn(current);
    this.refused.delete(key);
    if (hasFinalizer(current)) this.guarded.set(key, current);
    const held = { object: current, claim, statuses: this.createStatuses(current, claim) };
    this.held.set(key, held);
    if (!isFinished(current)) this.postClaimed(current);
    return { lost: claim.lost, assertHeld: () => claim.assertHeld(), release: () => this.release(key, held) };
  }

  /**
   * Looks again at random within a renewal, and as soon as the Lease would expire. Random, so that processes do not ask
   * at the same time.
   */
  private lookAgain(key: string, object: ExportObject): undefined {
    const { queue, times, random } = this.options;
    this.refused.set(key, object);
    const leftMs = this.leases.leftMs(leaseTargetOf(object)) ?? times.durationMs;
    queue.addAfter(key, Math.min(times.renewMs * (0.75 + random() / 2), leftMs + times.renewMs * random() * 0.1));
  }

  /**
   * Writes the executor into the latest version: the previous holder may have changed the object.
   * @returns undefined when it is gone
   */
  private async recordExecutor(object: ExportObject): Promise<ExportObject | undefined> {
    const { api, executor, clock } = this.options;
    if (isFinished(object)) {
      const found = await api.exports.get(object.metadata);
      return found?.metadata.uid === object.metadata.uid ? found : undefined;
    }
    return changeExport(api.exports, object, (current) => {
      // A finished export keeps the executor that finished it.
      if (isFinished(current)) return undefined;
      const startTime = statusOf(current)?.startTime ?? timestamp(clock.nowMs());
      const status = { startTime, executor: { podName: null, podUID: null, nodeName: null, ...fitStatus({ executor }).executor } };
      return { patch: { status }, subresource: 'status' };
    });
  }

  private postClaimed(object: ExportObject): void {
    const { podName, nodeName } = this.options.executor;
    const message = `claimed by ${podName ?? this.options.holder}${nodeName === undefined ? '' : ` on ${nodeName}`}`;
    void this.options.postEvent(object, { type: 'Normal', reason: 'Claimed', message });
  }

  private createStatuses(object: ExportObject, claim: Claim): StatusQueue {
    return createStatusQueue({
      generation: object.metadata.generation,
      warn: (message) => this.options.warn(message),
      write: async (status) => {
        await claim.assertHeld();
        const current = this.known.get(keyOf(object.metadata));
        if (current?.metadata.uid === object.metadata.uid) await this.patchStatus(current, status);
      },
    });
  }

  /** Sends the version, because the API server does not compare the UID of a status patch. */
  private async patchStatus(object: ExportObject, status: MergePatch): Promise<void> {
    const change = { patch: { status }, subresource: 'status' } as const;
    const changed = await changeExport(this.options.api.exports, object, () => change);
    if (changed !== undefined) this.known.learn(changed);
  }

  private async release(key: string, held: Held): Promise<void> {
    if (this.held.get(key) !== held) return;
    const { claim, object } = held;
    if (claim.lost.aborted) this.guarded.delete(key);
    if (this.options.stopping.aborted) await this.dropFinalizer(key);
    this.held.delete(key);
    await claim.release();
    // Another object may have come under this name. It was not shown while this one was held.
    if (this.known.get(key)?.metadata.uid !== object.metadata.uid) this.options.queue.add(key);
  }

  async writeStatus(key: string, status: DiskExportStatus): Promise<void> {
    const held = this.held.get(key);
    const object = this.known.get(key);
    try {
      if (held !== undefined) return await held.statuses.write(status);
      if (object === undefined) return;
      const { uid, resourceVersion } = object.metadata;
      const patch = { metadata: { uid, resourceVersion }, status: statusPatch(status) };
      this.known.learn(await this.options.api.exports.patch(object.metadata, { patch, subresource: 'status' }));
    } catch (error) {
      // 404: the object is gone. 409: it changed; the watch delivers it again.
      if (isApiFailure(error, 'NotFound') || isApiFailure(error, 'Conflict')) return;
      throw error;
    }
  }

  async setCleanupPending(key: string, pending: boolean): Promise<void> {
    const held = this.held.get(key);
    const object = this.known.get(key);
    if (object === undefined || (held !== undefined && held.object.metadata.uid !== object.metadata.uid)) return;
    if (pending && this.leaving !== undefined) throw new DiskliftError('Cancelled', `${key}: its namespace is being deleted`);
    await held?.claim.assertHeld();
    const changed = await setFinalizer(this.options.api.exports, object, pending);
    if (changed !== undefined) this.known.learn(changed);
    if (changed !== undefined && pending) this.guarded.set(key, changed);
    else this.guarded.delete(key);
  }

  async remove(key: string): Promise<void> {
    const object = this.known.get(key);
    if (object === undefined) return;
    try {
      await this.options.api.exports.remove(object.metadata, { uid: object.metadata.uid });
    } catch (error) {
      // The object under this name is another one.
      if (isApiFailure(error, 'Conflict')) return;
      throw error;
    }
  }

  async recordEvent(key: string, event: RequestEvent): Promise<void> {
    const object = this.held.get(key)?.object ?? this.known.get(key);
    if (object !== undefined) await this.options.postEvent(object, event);
  }

  holdsBack(): boolean {
    return this.guarded.size > 0;
  }

  async leaveNamespace(): Promise<void> {
    const { queue, clock, stopping } = this.options;
    this.leaving = new Set([...this.guarded.values()].map(({ metadata }) => metadata.uid));
    for (const key of this.guarded.keys()) queue.add(key);
    await clock.delay(LEAVE_MS, stopping).catch(() => {});
    await this.close();
  }

  async close(): Promise<void> {
    await Promise.all([...this.guarded.keys()].map((key) => this.dropFinalizer(key)));
  }

  /** Never fails: the next process can remove the finalizer. */
  private async dropFinalizer(key: string): Promise<void> {
    const object = this.known.get(key);
    if (object === undefined || !this.guarded.has(key)) return;
    try {
      if (this.held.has(key) || !(await this.leases.isHeldByAnother(leaseTargetOf(object)))) await this.setCleanupPending(key, false);
    } catch (error) {
      if (!(error instanceof DiskliftError)) throw error;
      this.options.warn(`the finalizer stays: ${error.message}`, key);
    }
  }
}
