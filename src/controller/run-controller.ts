/**
 * The loop of the controller: each key is observed, decided and worked on, a few at a time, one at a time for each key.
 * A failure is retried with growing pauses and never stops the other exports.
 */

import type { Clock } from '../common/clock.ts';
import { DiskliftError, isStoreFailure } from '../common/errors.ts';
import { type Backoff, backoffDelayMs } from '../common/retry.ts';
import { invalidStatusOf } from '../engine/export-status.ts';
import type { DiskExport } from '../resource/disk-export.ts';
import type { StoredRequest } from '../stores/contract.ts';
import { createWorkQueue, type WorkQueue } from '../stores/kubernetes/cache/work-queue.ts';
import { isApiFailure } from '../stores/kubernetes/client/api-failure.ts';
import { ALL_NAMESPACES } from '../stores/kubernetes/client/contract.ts';
import type { FleetApi } from '../stores/kubernetes/client/fleet-api.ts';
import type { ExportObject } from '../stores/kubernetes/client/objects.ts';
import type { EventPoster } from '../stores/kubernetes/store/kubernetes-events.ts';
import { statusPatch } from '../stores/kubernetes/store/status-queue.ts';
import type { Action, Decision, Report } from './decision.ts';
import { createFleetCache, type FleetCache } from './fleet-cache.ts';
import { createExportObserver, type ExportObserver, type ObservedExport } from './observe-export.ts';
import type { Observed } from './observed.ts';
import { createPerformer, type Performer } from './perform.ts';
import { createQueueMessages, type QueueMessages } from './queue-messages.ts';
import { reconcile } from './reconcile.ts';
import { eventsOf, reportedStatusOf } from './report-status.ts';
import { createSlotQueue, type SlotLimits, type SlotQueue } from './slot-queue.ts';
import { createWorkerAccess, type WorkerAccess } from './worker-access.ts';
import type { JobTemplate } from './worker-job.ts';

export interface ControllerOptions {
  api: FleetApi;
  /** Empty: all namespaces. */
  namespaces: readonly string[];
  limits: SlotLimits;
  template: JobTemplate;
  podStartTimeoutMs: number;
  /** ClusterRole that the workers of a namespace get. */
  workerClusterRole: string;
  /** Names the destination's host. */
  hostOf(request: DiskExport): string;
  events: EventPoster;
  /** @throws DiskliftError `ExecutorLost` when another controller may lead */
  assertLeading(): Promise<void>;
  clock: Clock;
  random(): number;
  /** @param key of the export that the message is about */
  warn(message: string, key?: string): void;
  observer?: ControllerObserver | undefined;
}

/** Receives the facts that metrics count. */
export interface ControllerObserver {
  /** A key was worked on. */
  onReconcile?(durationMs: number, failure: DiskliftError | undefined): void;
  /** An event of type Warning was recorded. @param reason one word, of few */
  onWarning?(reason: string): void;
}

export interface ControllerFacts {
  waitingCount: number;
  /** Creation of the oldest waiting export, in milliseconds since the epoch. */
  oldestWaitingMs: number | undefined;
  heldCount: number;
  jobs: number;
  volumeSnapshots: number;
  virtualMachineSnapshots: number;
  clones: number;
}

export interface Controller {
  /** Works until `signal` is aborted. Never throws. */
  run(signal: AbortSignal): Promise<void>;
  facts(): ControllerFacts;
  readonly hasSynced: boolean;
  /** How up to date its copies are. */
  readonly freshness: Pick<FleetCache, 'problem' | 'silenceMs'>;
}

/** Keys that are worked on at a time. */
const WORKERS = 8;

const BACKOFF: Backoff = { baseMs: 1000, capMs: 60_000 };

/** Limit for one look at the initial lists. */
const SYNC_POLL_MS = 50;

export function createController(options: ControllerOptions): Controller {
  return new FleetController(options);
}

class FleetController implements Controller {
  private readonly options: ControllerOptions;
  private readonly cache: FleetCache;
  private readonly slots: SlotQueue;
  private readonly access: WorkerAccess;
  private readonly performer: Performer;
  private readonly observer: ExportObserver;
  private readonly messages: QueueMessages;
  private readonly stopped = new AbortController();
  private readonly queue: WorkQueue;
  private readonly failures = new Map<string, number>();
  private isReady = false;

  constructor(options: ControllerOptions) {
    const { api, clock, limits, template, workerClusterRole, assertLeading } = options;
    this.options = options;
    this.queue = createWorkQueue(clock, this.stopped.signal);
    this.cache = createFleetCache({ ...options, onExport: (key) => this.enqueue(key) });
    this.slots = createSlotQueue({ limits, onGrant: (key) => this.queue.add(key) });
    this.access = createWorkerAccess({ api, serviceAccountName: template.serviceAccountName, clusterRole: workerClusterRole });
    this.performer = createPerformer({ api, cache: this.cache, access: this.access, assertLeading });
    this.observer = createExportObserver({ api, cache: this.cache, clock });
    this.messages = createQueueMessages(this.slots);
  }

  get hasSynced(): boolean {
    return this.isReady;
  }

  get freshness(): Controller['freshness'] {
    return this.cache;
  }

  facts(): ControllerFacts {
    return {
      waitingCount: this.slots.waitingCount,
      oldestWaitingMs: this.slots.oldestWaitingMs(),
      heldCount: this.slots.heldCount,
      jobs: this.cache.countOf('jobs'),
      volumeSnapshots: this.cache.countOf('volumeSnapshots'),
      virtualMachineSnapshots: this.cache.countOf('virtualMachineSnapshots'),
      clones: this.cache.countOf('persistentVolumeClaims'),
    };
  }

  async run(signal: AbortSignal): Promise<void> {
    signal.addEventListener('abort', () => this.stopped.abort(signal.reason), { once: true });
    if (signal.aborted) this.stopped.abort(signal.reason);
    const watching = this.cache.run(this.stopped.signal);
    try {
      await this.untilSynced();
      this.adoptSlots();
      await this.adoptAccess();
      this.isReady = true;
      for (const key of this.cache.exports.keys()) this.queue.add(key);
      await Promise.all([...Array.from({ length: WORKERS }, () => this.work()), this.refreshMessages()]);
    } catch (error) {
      if (!this.stopped.signal.aborted) throw error;
    } finally {
      this.isReady = false;
      await watching;
    }
  }

  /** Before that, an export with objects would look like one without. */
  private enqueue(key: string): void {
    if (this.isReady) this.queue.add(key);
  }

  private async untilSynced(): Promise<void> {
    while (!this.cache.hasSynced) await this.options.clock.delay(SYNC_POLL_MS, this.stopped.signal);
  }

  private async adoptAccess(): Promise<void> {
    const { namespaces } = this.options;
    await this.access.adopt(namespaces.length === 0 ? [ALL_NAMESPACES] : namespaces);
  }

  /** Exports that an earlier process has begun hold their slots before any other is granted. */
  private adoptSlots(): void {
    for (const key of this.cache.ownersOfChildren()) {
      const request = this.observer.requestOf(key);
      if (request !== undefined) this.slots.adopt(key, this.slotRequestOf(request, undefined));
    }
  }

  private slotRequestOf(request: DiskExport, node: string | undefined) {
    const { namespace, creationTimestamp } = request.metadata;
    return { namespace, host: this.options.hostOf(request), node, createdMs: Date.parse(creationTimestamp ?? '') || 0 };
  }

  private async work(): Promise<void> {
    for await (const key of this.queue.take(this.stopped.signal)) await this.handleSafely(key);
  }

  private async handleSafely(key: string): Promise<void> {
    const { clock, random, warn, observer } = this.options;
    const startMs = clock.monotonicMs();
    try {
      await this.handle(key);
      this.failures.delete(key);
      observer?.onReconcile?.(clock.monotonicMs() - startMs, undefined);
    } catch (error) {
      if (this.stopped.signal.aborted) return;
      const failedAttempts = (this.failures.get(key) ?? 0) + 1;
      this.failures.set(key, failedAttempts);
      const failure = error instanceof DiskliftError ? error : undefined;
      warn(failure?.message ?? `internal error: ${(error as Error).stack ?? error}`, key);
      observer?.onReconcile?.(clock.monotonicMs() - startMs, failure);
      this.queue.addAfter(key, backoffDelayMs(BACKOFF, { failedAttempts, retryAfterMs: failure?.retryAfterMs }, random));
    }
  }

  private async handle(key: string): Promise<void> {
    const found = await this.observer.observe(key, { hasSlot: this.slots.holds(key), isWaiting: this.slots.waits(key) });
    if (found === undefined) return this.leave(key);
    if ('invalid' in found) return this.reportInvalid(key, found.object, found.invalid);
    const { observed } = found;
    const decision = reconcile(observed, this.options);
    if (decision.slot === 'needed') return this.requestSlot(key, found, decision);
    await this.carryOut(key, found, decision);
    const recheckMs = found.recheckMs ?? decision.recheckMs;
    if (recheckMs !== undefined) this.queue.addAfter(key, recheckMs);
    if (decision.slot === 'free') return this.leave(key);
    this.slots.adopt(key, this.slotRequestOf(observed.request, decision.node));
    if (decision.node !== undefined) this.slots.place(key, decision.node);
  }

  private async reportInvalid(key: string, { metadata }: ExportObject, stored: StoredRequest & { kind: 'invalid' }): Promise<void> {
    const status = invalidStatusOf(stored, this.options.clock.nowMs());
    const patch = { status: statusPatch(status ?? {}), metadata: { uid: metadata.uid, resourceVersion: metadata.resourceVersion } };
    if (status !== undefined) this.cache.exports.learn(await this.options.api.exports.patch(metadata, { patch, subresource: 'status' }));
    await this.leave(key);
  }

  private async requestSlot(key: string, found: ObservedExport, { node }: Decision): Promise<void> {
    const { request } = found.observed;
    if (this.slots.request(key, this.slotRequestOf(request, node))) {
      this.queue.add(key);
      return;
    }
    const report = this.messages.reportOf(key);
    if (report !== undefined) await this.write(key, found, report);
  }

  private async carryOut(key: string, found: ObservedExport, { report, actions }: Decision): Promise<void> {
    if (report !== undefined && !(await this.write(key, found, report))) return;
    try {
      await this.performer.perform(found.object, found.observed.request, actions);
    } catch (error) {
      const refusal = refusalReport(error, actions, found.observed);
      if (refusal !== undefined) await this.write(key, { ...found, object: this.cache.exports.get(key) ?? found.object }, refusal);
      throw error;
    }
  }

  /** @returns false when the object has changed meanwhile: the key comes again, and is decided anew */
  private async write(key: string, { object, observed }: ObservedExport, report: Report): Promise<boolean> {
    const { api, clock, events, assertLeading } = this.options;
    const request = this.observer.requestOf(key) ?? observed.request;
    const status = reportedStatusOf(request, report, clock.nowMs());
    if (status === undefined) return true;
    await assertLeading();
    const { uid, resourceVersion } = object.metadata;
    try {
      const patch = { ...{ status: statusPatch(status) }, metadata: { uid, resourceVersion } };
      this.cache.exports.learn(await api.exports.patch(object.metadata, { patch, subresource: 'status' }));
    } catch (error) {
      if (!isApiFailure(error, 'Conflict') && !isApiFailure(error, 'NotFound')) throw error;
      this.queue.addAfter(key, BACKOFF.baseMs);
      return false;
    }
    for (const event of eventsOf(request, report)) {
      void events.post(object, event);
      if (event.type === 'Warning') this.options.observer?.onWarning?.(event.reason);
    }
    return true;
  }

  private async leave(key: string): Promise<void> {
    this.slots.release(key);
    this.messages.forget(key);
    this.observer.forget(key);
    const namespace = key.slice(0, key.indexOf('/'));
    const isIdle = () => this.slots.heldIn(namespace) === 0;
    await this.access.removeWhenIdle(namespace, isIdle);
  }

  /** The place in the queue changes with every grant; a status is written only now and then. */
  private async refreshMessages(): Promise<void> {
    for (;;) {
      await this.options.clock.delay(this.messages.refreshMs, this.stopped.signal);
      for (const key of this.messages.outdated()) this.queue.add(key);
    }
  }
}

/** A refusal of an object shows on the export, and is retried until the source is late. */
function refusalReport(error: unknown, actions: readonly Action[], { hasSlot, request, nowMs }: Observed): Report | undefined {
  if (!isStoreFailure(error) || error.code !== 'StoreRefused' || actions.length === 0) return undefined;
  const reason = isApiFailure(error, 'QuotaExceeded') ? 'QuotaExceeded' : 'StoreRefused';
  const problem = { reason, message: error.message };
  return {
    ...problem,
    isProblem: true,
    sourceReady: { status: 'False', ...problem },
    ...(hasSlot ? { startMs: Date.parse(request.status?.startTime ?? '') || nowMs } : {}),
  };
}
