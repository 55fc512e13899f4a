/**
 * The loop of the controller: each key is observed, decided and worked on, a few at a time, one at a time for each key.
 * A failure is retried with growing pauses and never stops the other exports.
 */

import { DiskliftError, isStoreFailure } from '../common/errors.ts';
import { type Backoff, retryStoreCall } from '../common/retry.ts';
import type { DiskExport } from '../resource/disk-export.ts';
import { FailureDelays } from '../stores/kubernetes/cache/failure-delays.ts';
import { createWorkQueue, type WorkQueue } from '../stores/kubernetes/cache/work-queue.ts';
import { namespaceOf, scopesOf } from '../stores/kubernetes/client/contract.ts';
import type { ExportObject } from '../stores/kubernetes/client/objects.ts';
import type { Controller, ControllerFacts, ControllerOptions } from './contract.ts';
import { countObjects } from './count-objects.ts';
import type { Decision, Report } from './decision.ts';
import { createFleetCache, type FleetCache } from './fleet-cache.ts';
import { createExportObserver, type ExportObserver, type ObservedExport } from './observe-export.ts';
import { createPerformer, type Performer } from './perform.ts';
import { createQueueMessages, type QueueMessages } from './queue-messages.ts';
import { reconcile } from './reconcile.ts';
import { refusalReport } from './refusal-report.ts';
import { createReportWriter, type ReportWriter } from './report-writer.ts';
import { createSlotQueue, type SlotQueue } from './slot-queue.ts';
import { createWorkerAccess, type WorkerAccess } from './worker-access.ts';

/** Keys that are worked on at a time. */
const WORKERS = 8;

const BACKOFF: Backoff = { baseMs: 1000, capMs: 60_000 };

/** Time in which the exports of a namespace get their slots after the start. */
const IDLE_MS = 10_000;

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
  private readonly reports: ReportWriter;
  private readonly messages: QueueMessages;
  private readonly stopped = new AbortController();
  private readonly queue: WorkQueue;
  private readonly delays: FailureDelays;
  private isReady = false;

  constructor(options: ControllerOptions) {
    const { api, clock, random, limits, template, workerClusterRole, assertLeading } = options;
    this.options = options;
    this.delays = new FailureDelays(BACKOFF, random);
    // Thousands of exports that begin to wait must not delay those that run.
    this.queue = createWorkQueue(clock, this.stopped.signal, (key) => this.slots.holds(key));
    this.cache = createFleetCache({ ...options, onExport: (key) => this.onExport(key) });
    this.slots = createSlotQueue({ limits, onGrant: (key) => this.queue.add(key) });
    this.access = createWorkerAccess({
      api,
      serviceAccountName: template.serviceAccountName,
      clusterRole: workerClusterRole,
      assertLeading,
    });
    this.performer = createPerformer({ api, cache: this.cache, access: this.access, assertLeading });
    this.observer = createExportObserver({ api, cache: this.cache, clock });
    this.messages = createQueueMessages(this.slots);
    const onWarning = (reason: string) => options.observer?.onWarning?.(reason);
    this.reports = createReportWriter({ ...options, cache: this.cache, onWarning });
  }

  get hasSynced(): boolean {
    return this.isReady;
  }

  get freshness(): Controller['freshness'] {
    return this.cache;
  }

  facts(): ControllerFacts {
    const { waitingCount, heldCount } = this.slots;
    return { waitingCount, oldestWaitingMs: this.slots.oldestWaitingMs(), heldCount, ...countObjects(this.cache) };
  }

  async run(signal: AbortSignal): Promise<void> {
    signal.addEventListener('abort', () => this.stopped.abort(signal.reason), { once: true });
    if (signal.aborted) this.stopped.abort(signal.reason);
    const watching = this.cache.run(this.stopped.signal);
    try {
      await this.untilSynced();
      this.adoptSlots();
      const namespaces = await this.adoptAccess();
      this.isReady = true;
      for (const key of this.cache.exports.keys()) this.queue.add(key);
      // Maybe the last export of a namespace was deleted while no controller ran.
      for (const namespace of namespaces) this.queue.addAfter(`${namespace}/`, IDLE_MS);
      await Promise.all([...Array.from({ length: WORKERS }, () => this.work()), this.refreshMessages()]);
    } catch (error) {
      if (!this.stopped.signal.aborted) throw error;
    } finally {
      this.isReady = false;
      this.stopped.abort(signal.reason);
      await watching;
    }
  }

  exportKeys(): Iterable<string> {
    return this.cache.exports.keys();
  }

  exportOf(key: string): ExportObject | undefined {
    return this.cache.exports.get(key);
  }

  private onExport(key: string): void {
    this.options.onExport?.(key);
    this.enqueue(key);
  }

  /** Before that, an export with objects would look like one without. */
  private enqueue(key: string): void {
    if (this.isReady) this.queue.add(key);
  }

  private async untilSynced(): Promise<void> {
    while (!this.cache.hasSynced) await this.options.clock.delay(SYNC_POLL_MS, this.stopped.signal);
  }

  private adoptAccess(): Promise<Iterable<string>> {
    const { namespaces, clock, random, warn } = this.options;
    return retryStoreCall(() => this.access.adopt(scopesOf(namespaces)), {
      isRetryable: isStoreFailure,
      clock,
      random,
      signal: this.stopped.signal,
      onRetry: (error) => warn((error as Error).message),
    });
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
    const { clock, warn, observer } = this.options;
    const startMs = clock.monotonicMs();
    try {
      await this.handle(key);
      this.delays.forget(key);
      observer?.onReconcile?.(clock.monotonicMs() - startMs, undefined);
    } catch (error) {
      if (this.stopped.signal.aborted) return;
      const failure = error instanceof DiskliftError ? error : undefined;
      warn(failure?.message ?? `internal error: ${(error as Error).stack ?? error}`, key);
      observer?.onReconcile?.(clock.monotonicMs() - startMs, failure?.code ?? 'InternalError');
      this.queue.addAfter(key, this.delays.next(key, failure?.retryAfterMs));
    }
  }

  private async handle(key: string): Promise<void> {
    const found = await this.observer.observe(key, { hasSlot: this.slots.holds(key), isWaiting: this.slots.waits(key) });
    if (found === undefined) {
      this.observer.forget(key);
      return this.leave(key);
    }
    if ('invalid' in found) {
      await this.reports.writeInvalid(found.object, found.invalid);
      return this.leave(key);
    }
    const { observed } = found;
    let decision = reconcile(observed, this.options);
    if (decision.slot === 'needed') {
      if (!this.slots.request(key, this.slotRequestOf(observed.request, decision.node))) return this.reportQueued(key, found);
      // An export that has waited has not looked at its source.
      if (observed.source === undefined) {
        this.queue.add(key);
        return;
      }
      decision = reconcile({ ...observed, hasSlot: true }, this.options);
    }
    await this.carryOut(key, found, decision);
    const recheckMs = found.recheckMs ?? decision.recheckMs;
    if (recheckMs !== undefined) this.queue.addAfter(key, recheckMs);
    if (decision.slot === 'free') return this.leave(key);
    this.slots.adopt(key, this.slotRequestOf(observed.request, decision.node));
    if (decision.node !== undefined) this.slots.place(key, decision.node);
  }

  private async reportQueued(key: string, found: ObservedExport): Promise<void> {
    const report = this.messages.reportOf(key);
    let isWritten = false;
    try {
      isWritten = report === undefined || (await this.write(key, found, report));
    } finally {
      if (!isWritten) this.messages.forget(key);
    }
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
    const isWritten = await this.reports.write(object, this.observer.requestOf(key) ?? observed.request, report);
    if (!isWritten) this.queue.addAfter(key, BACKOFF.baseMs);
    return isWritten;
  }

  private async leave(key: string): Promise<void> {
    this.slots.release(key);
    this.messages.forget(key);
    const namespace = namespaceOf(key);
    // The next export that waits would have to create them again.
    await this.access.removeWhenIdle(namespace, () => this.slots.isIdle(namespace));
  }

  /** The place in the queue changes with every grant; a status is written only now and then. */
  private async refreshMessages(): Promise<void> {
    for (;;) {
      await this.options.clock.delay(this.messages.refreshMs, this.stopped.signal);
      for (const key of this.messages.outdated()) this.queue.add(key);
    }
  }
}
