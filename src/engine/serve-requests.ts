/**
 * Runs the requests of a store in their order, a limited number at a time.
 *
 * For each key that the store reports, the server reads the request. It cancels a run whose request is cancelled or
 * being deleted. It cleans up after a request that has ended or is being deleted. It starts a run for any other
 * request. When a run ends, it reads the request again. After a failure the request is paused and read again later.
 */

import { DiskliftError } from '../common/errors.ts';
import type { DiskExport, DiskExportStatus } from '../resource/disk-export.ts';
import { statusOfGeneration } from '../resource/status.ts';
import type { Claim, RequestStore } from '../stores/contract.ts';
import { cleanUpRequest, hasLeftovers } from './clean-up-request.ts';
import type { EngineContext, ExportPlan } from './contract.ts';
import { createKeyedTimers, type KeyedTimers, Pauses } from './delayed-requests.ts';
import { createExportSlots, type ExportSlots, type Slot } from './export-slots.ts';
import { invalidStatusOf, isEdited, isFinished, waitingStatusOf } from './export-status.ts';
import type { RequestObserver } from './observer.ts';
import { runRequest } from './run-request.ts';
import { limitStoreCalls, type TimeLimitedStore } from './time-limited-store.ts';
import { UnrecordedEnds } from './unrecorded-ends.ts';

export interface ServeOptions extends Pick<EngineContext, 'signal' | 'clock' | 'random'> {
  store: RequestStore;
  /** @returns why this process cannot run the export, or undefined when it can */
  refusal(request: DiskExport): string | undefined;
  /** @throws DiskliftError when the disks or the destination are not there */
  plan(request: DiskExport): Promise<ExportPlan>;
  /**
   * Plans only the disks whose uploads the status names, without the volume.
   * @throws DiskliftError when the destination is not there
   */
  planLeftovers(request: DiskExport): Promise<ExportPlan>;
  observers: readonly RequestObserver[];
  executor?: DiskExportStatus['executor'] | undefined;
  /** Names the destination's host; exports to one host are counted together. */
  hostOf(request: DiskExport): string;
  maxConcurrentExports: number;
  /** Limit for exports to one host. `maxConcurrentExports` when left out. */
  maxConcurrentExportsPerHost?: number | undefined;
  /** Grace period for the process that serves the volume of a deleted request; then any process aborts its upload. */
  orphanMs?: number;
  /**
   * Time in which a process that serves the volume begins a new request; then an event says that none does. {@link
   * UNSERVED_MS} when left out.
   */
  unservedMs?: number;
  warn(message: string, key?: string): void;
}

/** An export that waits for a slot or runs. */
interface Active {
  cancel: AbortController;
  /** The request is being deleted. A destination that does not answer must not block that. */
  isTerminating: boolean;
  done: Promise<void>;
}

/** As long as the Lease of a dead process holds by default. */
const ORPHAN_MS = 30_000;

const UNSERVED_MS = 120_000;

/** Resolves when `signal` is aborted and every run has stopped. Another process can continue the runs. */
export function serveRequests(options: ServeOptions): Promise<void> {
  return new RequestServer(options).run();
}

class RequestServer {
  private readonly options: ServeOptions;
  private readonly store: TimeLimitedStore;
  private readonly slots: ExportSlots;
  /** Slots for exports in whose runs processes were lost: one runs at a time. */
  private readonly suspects = createExportSlots({ total: 1 });
  private readonly active = new Map<string, Active>();
  private readonly pauses: Pauses;
  private readonly unrecorded: UnrecordedEnds;
  /** Aborted when the process must end: runs stop, and uploads stay open. */
  private readonly stop = new AbortController();
  private readonly expiring: KeyedTimers;
  private readonly orphans: KeyedTimers;
  private readonly unserved: KeyedTimers;

  constructor(options: ServeOptions) {
    this.options = options;
    this.store = limitStoreCalls(options.store, { ...options, stopping: this.stop.signal });
    this.unrecorded = new UnrecordedEnds({ store: this.store, warn: options.warn });
    this.slots = createExportSlots({ total: options.maxConcurrentExports, perHost: options.maxConcurrentExportsPerHost });
    const { clock, random } = options;
    this.pauses = new Pauses({ clock, random, signal: this.stop.signal, onOver: (key) => void this.handleSafely(key) });
    const timers = { clock: options.clock, signal: this.stop.signal };
    this.expiring = createKeyedTimers({
      ...timers,
      onError: (key, error) => this.retryLater(key, error, 'cannot be removed'),
    });
    this.orphans = createKeyedTimers({ ...timers, onError: (key, error) => this.retryLater(key, error) });
    this.unserved = createKeyedTimers({ ...timers, onError: (key, error) => this.retryLater(key, error) });
  }

  async run(): Promise<void> {
    const { signal } = this.options;
    const onAbort = () => this.stop.abort(new DiskliftError('ExecutorLost', 'the executor was stopped'));
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
    for await (const key of this.store.watch(signal)) await this.handleSafely(key);
    await Promise.allSettled([...this.active.values()].map(({ done }) => done));
    await this.unrecorded.forgetAll();
    this.store.close();
  }

  /** The failure of one request must not stop the others. */
  private async handleSafely(key: string): Promise<void> {
    try {
      await this.handle(key);
    } catch (error) {
      this.retryLater(key, error);
    }
  }

  /** @param what precedes the warning's message */
  private retryLater(key: string, error: unknown, what?: string): void {
    if (this.stop.signal.aborted) return;
    const message = error instanceof DiskliftError ? error.message : `internal error: ${(error as Error).stack ?? error}`;
    this.options.warn(what === undefined ? message : `${what}: ${message}`, key);
    this.pauses.begin(key, error);
  }

  private async handle(key: string): Promise<void> {
    const { store } = this;
    const { clock, refusal } = this.options;
    const stored = await store.get(key);
    const active = this.active.get(key);
    if (stored === undefined) {
      this.pauses.forget(key);
      active?.cancel.abort(new DiskliftError('Cancelled', 'the request was deleted'));
      return this.unrecorded.forget(key);
    }
    if (stored.kind === 'invalid') {
      if (active !== undefined || this.pauses.isPaused(key, false)) return;
      const status = invalidStatusOf(stored, clock.nowMs());
      if (status !== undefined) await store.writeStatus(key, status);
      return;
    }
    const { request, isTerminating } = stored;
    if (active !== undefined) active.isTerminating = isTerminating;
    if (isTerminating) active?.cancel.abort(new DiskliftError('Cancelled', 'the request is being deleted'));
    else if (request.spec.cancel) active?.cancel.abort(new DiskliftError('Cancelled', 'cancelled by spec.cancel'));
    if (active !== undefined || this.pauses.isPaused(key, isTerminating || request.spec.cancel === true)) return;
    // The clean-up takes the claim itself.
    if (isTerminating || isFinished(request)) await this.unrecorded.forget(key);
    const reason = refusal(request);
    if (isFinished(request)) {
      if (isTerminating || hasLeftovers(request)) return this.start(key, () => this.cleanUp(key));
      if (reason === undefined && isEdited(request))
        await store.writeStatus(key, statusOfGeneration(request.status ?? {}, request.metadata.generation));
      return this.finish(key, request);
    }
    if (isTerminating && reason === undefined) return this.start(key, () => this.cleanUp(key));
    if (reason === undefined) return this.start(key, (cancelled) => this.runOne(key, request, cancelled), request.spec.cancel);
    if (isTerminating) return this.orphans.start(key, this.options.orphanMs ?? ORPHAN_MS, () => this.adopt(key));
    await this.reportUnserved(key, request, reason);
  }

  /** Another process may serve the volume. */
  private async reportUnserved(key: string, request: DiskExport, message: string): Promise<void> {
    const { store } = this;
    const { clock } = this.options;
    if (request.status !== undefined) return;
    if (!store.showsUnclaimed)
      await store.writeStatus(key, waitingStatusOf(request, { reason: 'Unclaimed', message, nowMs: clock.nowMs() }));
    this.unserved.start(key, this.options.unservedMs ?? UNSERVED_MS, async () => {
      const stored = await store.get(key);
      if (stored?.kind !== 'request') return;
      const { status } = stored.request;
      // A process that has queued the request has written a status.
      const isUnserved = store.showsUnclaimed ? status === undefined : status?.startTime === undefined && !isFinished(stored.request);
      if (isUnserved) await store.recordEvent(key, { type: 'Warning', reason: 'VolumeNotServed', message, isOnce: true });
    });
  }

  /** Cleans up after a request that is still being deleted. */
  private async adopt(key: string): Promise<void> {
    const stored = await this.store.get(key);
    if (stored?.kind === 'request' && stored.isTerminating && !this.active.has(key)) this.start(key, () => this.cleanUp(key));
  }

  /**
   * Starts `work` on a request. Reads the request again when `work` returns true, because it may have changed
   * meanwhile. False means that another process holds the claim: the store reports the key again when the claim may be
   * free.
   */
  private start(key: string, work: (cancelled: AbortSignal) => Promise<boolean>, isCancelled = false): void {
    const cancel = new AbortController();
    if (isCancelled) cancel.abort(new DiskliftError('Cancelled', 'cancelled by spec.cancel'));
    const done = work(cancel.signal).then(
      (isDone) => {
        this.active.delete(key);
        if (isDone && !this.stop.signal.aborted) return this.handleSafely(key);
      },
      (error: unknown) => {
        this.active.delete(key);
        this.retryLater(key, error);
      },
    );
    this.active.set(key, { cancel, done, isTerminating: false });
  }

  private async runOne(key: string, request: DiskExport, cancelled: AbortSignal): Promise<boolean> {
    const { store } = this;
    const { clock } = this.options;
    const slot = this.slots.reserve(this.options.hostOf(request));
    let claim: Claim | undefined;
    try {
      // A request that is cancelled while it waits needs no slot.
      const acquired = slot.acquire(AbortSignal.any([cancelled, this.stop.signal])).catch(() => {});
      await this.reportQueued(key, request, slot);
      await acquired;
      if (this.stop.signal.aborted) return false;
      if (await this.unrecorded.record(key)) return true;
      claim = await store.claim(key);
      if (claim === undefined) return false;
      const stored = await store.get(key);
      if (stored?.kind !== 'request' || isFinished(stored.request)) return true;
      const held = claim;
      const { lost } = held;
      const signal = AbortSignal.any([cancelled, this.stop.signal, lost]);
      const { phase, failure, status, unrecorded } = await runRequest({
        ...this.options,
        request: stored.request,
        signal,
        lost,
        slot,
        suspects: this.suspects,
        stopping: this.stop.signal,
        plan: () => this.options.plan(stored.request),
        watchers: this.options.observers.flatMap((observer) => observer.onBegin?.(key, stored.request) ?? []),
        assertHeld: () => held.assertHeld(),
        warn: (message) => this.options.warn(message, key),
        writeStatus: (status) => store.writeStatus(key, status),
        setCleanupPending: (pending) => store.setCleanupPending(key, pending),
        isTerminating: () => stored.isTerminating || (this.active.get(key)?.isTerminating ?? false),
        recordEvent: (event) => store.recordEvent(key, event),
        clock,
      });
      if (this.stop.signal.aborted) return false;
      if (unrecorded !== undefined && !lost.aborted) {
        this.unrecorded.add(key, { uid: stored.request.metadata.uid, status, claim: held });
        claim = undefined;
      }
      if (phase === 'Pending' || unrecorded !== undefined) {
        // The retry waits, because the same failure may happen again at once.
        this.retryLater(key, unrecorded ?? failure);
        return false;
      }
      this.pauses.forget(key);
      return true;
    } finally {
      slot.release();
      await claim?.release();
    }
  }

  /** A request without a status would look as if no process served it. */
  private async reportQueued(key: string, request: DiskExport, slot: Slot): Promise<void> {
    const { store } = this;
    const { clock, maxConcurrentExports, hostOf } = this.options;
    const wait = slot.waitsFor();
    if (wait === undefined || request.status !== undefined) return;
    const message =
      wait === 'host'
        ? `waits for a slot: other exports to ${hostOf(request)} use all slots of that host`
        : `waits for a slot: ${maxConcurrentExports} exports run at a time`;
    await store.writeStatus(key, waitingStatusOf(request, { reason: 'Queued', message, nowMs: clock.nowMs() }));
  }

  private async cleanUp(key: string): Promise<boolean> {
    const isDone = await cleanUpRequest(key, { ...this.options, store: this.store, stopping: this.stop.signal });
    if (isDone) this.pauses.forget(key);
    return isDone;
  }

  /** Removes a finished request after `ttlSecondsAfterFinished`. */
  private finish(key: string, request: DiskExport): void {
    const { ttlSecondsAfterFinished } = request.spec;
    const { completionTime } = request.status ?? {};
    if (ttlSecondsAfterFinished === undefined || completionTime === undefined) return;
    const { store } = this;
    const { clock } = this.options;
    const leftMs = Date.parse(completionTime) + ttlSecondsAfterFinished * 1000 - clock.nowMs();
    this.expiring.start(key, leftMs, async () => {
      const stored = await store.get(key);
      // The request may have been edited meanwhile.
      const isStillDue = stored?.kind === 'request' && stored.request.spec.ttlSecondsAfterFinished === ttlSecondsAfterFinished;
      if (isStillDue && isFinished(stored.request)) await store.remove(key);
      else await this.handleSafely(key);
    });
  }
}
