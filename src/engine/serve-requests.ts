/** Runs the requests of a store as they come: a few at a time, first come, first served, for as long as the process lives. */

import { DiskliftError } from '../common/errors.ts';
import type { DiskExport, DiskExportStatus } from '../resource/disk-export.ts';
import { statusOfGeneration } from '../resource/status.ts';
import type { Claim, RequestStore } from '../stores/contract.ts';
import { hasLeftovers } from './abandon-leftovers.ts';
import { type BoundedStore, boundStore } from './bounded-store.ts';
import { cleanUpRequest } from './clean-up-request.ts';
import type { EngineContext } from './context.ts';
import { createExportSlots, type ExportSlots, type Slot } from './export-slots.ts';
import { invalidStatusOf, isEdited, isFinished, waitingStatusOf } from './idle-status.ts';
import { createKeyedTimers, type KeyedTimers } from './keyed-timers.ts';
import type { ExportWatcher } from './observer.ts';
import { Pauses } from './pauses.ts';
import type { ExportPlan } from './run-export.ts';
import { runRequest } from './run-request.ts';
import { UnrecordedEnds } from './unrecorded-ends.ts';

export interface ServeOptions extends Pick<EngineContext, 'signal' | 'clock' | 'random'> {
  store: RequestStore;
  /** Why an export cannot be run here, or undefined when it can. */
  refusal(request: DiskExport): string | undefined;
  /** @throws DiskliftError when the disks or the destination cannot be */
  plan(request: DiskExport): Promise<ExportPlan>;
  /** Of the disks for which the status tells of an upload; needs no volume. @throws DiskliftError when that cannot be */
  planLeftovers(request: DiskExport): Promise<ExportPlan>;
  watch(request: DiskExport): readonly ExportWatcher[];
  executor?: DiskExportStatus['executor'] | undefined;
  /** Names the destination's host; exports to one host are counted together. */
  hostOf(request: DiskExport): string;
  maxConcurrentExports: number;
  /** Limit for exports to one host. No limit of its own when left out. */
  maxConcurrentExportsPerHost?: number | undefined;
  /** How long who serves the volume of a deleted request has to drop what it holds open, before anybody does. Default half a minute. */
  orphanMs?: number;
  /** How long who serves the volume of a new request has to begin, before it is said that nobody does. Default two minutes. */
  unservedMs?: number;
  warn(message: string, key?: string): void;
}

/** An export that waits for its turn or runs. */
interface Active {
  cancel: AbortController;
  /** The request is being deleted, and must not be kept by a destination that is dead. */
  isTerminating: boolean;
  done: Promise<void>;
}

/** Nobody who serves the volume has dropped what a deleted request holds open: then anybody does. As long as a Lease of a dead process holds. */
const ORPHAN_MS = 30_000;

/** Whoever serves the volume has had the time to begin. */
const UNSERVED_MS = 120_000;

/**
 * Returns when `signal` is aborted and everything has stopped. What was under way is left so that another process can go on.
 */
export function serveRequests(options: ServeOptions): Promise<void> {
  return new RequestServer(options).run();
}

class RequestServer {
  private readonly options: ServeOptions;
  private readonly store: BoundedStore;
  private readonly slots: ExportSlots;
  /** Slots for exports in whose runs processes were lost: one runs at a time. */
  private readonly suspects = createExportSlots({ total: 1 });
  private readonly active = new Map<string, Active>();
  private readonly pauses: Pauses;
  private readonly unrecorded: UnrecordedEnds;
  /** Aborted when the process is to end: exports stop where they are. */
  private readonly stop = new AbortController();
  private readonly expiring: KeyedTimers;
  private readonly orphans: KeyedTimers;
  private readonly unserved: KeyedTimers;

  constructor(options: ServeOptions) {
    this.options = options;
    this.store = boundStore(options.store, { ...options, stopping: this.stop.signal });
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

  /** What one request does must not keep the others from being served. */
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
    await this.tellUnserved(key, request, reason);
  }

  /** Somebody else may serve it. */
  private async tellUnserved(key: string, request: DiskExport, message: string): Promise<void> {
    const { store } = this;
    const { clock } = this.options;
    if (request.status !== undefined) return;
    if (!store.showsUnclaimed)
      await store.writeStatus(key, waitingStatusOf(request, { reason: 'Unclaimed', message, nowMs: clock.nowMs() }));
    this.unserved.start(key, this.options.unservedMs ?? UNSERVED_MS, async () => {
      const stored = await store.get(key);
      if (stored?.kind !== 'request') return;
      const { status } = stored.request;
      // Whoever has it wait for its turn says that.
      const isUnserved = store.showsUnclaimed ? status === undefined : status?.startTime === undefined && !isFinished(stored.request);
      if (isUnserved) await store.recordEvent(key, { type: 'Warning', reason: 'VolumeNotServed', message, isOnce: true });
    });
  }

  /** Drops what a request that is being deleted holds open, when it still does. */
  private async adopt(key: string): Promise<void> {
    const stored = await this.store.get(key);
    if (stored?.kind === 'request' && stored.isTerminating && !this.active.has(key)) this.start(key, () => this.cleanUp(key));
  }

  /**
   * Does `work` on a request aside, and looks at the request again behind it: more may have been asked for meanwhile. Not so where
   * `work` gives false, because somebody else has the request: the store names it again when it may be free.
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
      // A request that is cancelled meanwhile needs none.
      const acquired = slot.acquire(AbortSignal.any([cancelled, this.stop.signal])).catch(() => {});
      await this.tellQueued(key, request, slot);
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
        watchers: this.options.watch(stored.request),
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
        // The retry waits, because the same failure may come again at once.
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

  /** As long as it waits for its turn nobody has claimed it, but somebody will. */
  private async tellQueued(key: string, request: DiskExport, slot: Slot): Promise<void> {
    const { store } = this;
    const { clock, maxConcurrentExports, hostOf } = this.options;
    const wait = slot.waitsFor();
    if (wait === undefined || request.status !== undefined) return;
    const message =
      wait === 'host'
        ? `waits for its turn: other exports to ${hostOf(request)} run, and no more may at a time`
        : `waits for its turn: ${maxConcurrentExports} exports run at a time`;
    await store.writeStatus(key, waitingStatusOf(request, { reason: 'Queued', message, nowMs: clock.nowMs() }));
  }

  private async cleanUp(key: string): Promise<boolean> {
    const isDone = await cleanUpRequest(key, { ...this.options, store: this.store, stopping: this.stop.signal });
    if (isDone) this.pauses.forget(key);
    return isDone;
  }

  /** Removes a finished request when its time has come. */
  private finish(key: string, request: DiskExport): void {
    const { ttlSecondsAfterFinished } = request.spec;
    const { completionTime } = request.status ?? {};
    if (ttlSecondsAfterFinished === undefined || completionTime === undefined) return;
    const { store } = this;
    const { clock } = this.options;
    const leftMs = Date.parse(completionTime) + ttlSecondsAfterFinished * 1000 - clock.nowMs();
    this.expiring.start(key, leftMs, async () => {
      const stored = await store.get(key);
      // The time may have been changed meanwhile.
      const isStillDue = stored?.kind === 'request' && stored.request.spec.ttlSecondsAfterFinished === ttlSecondsAfterFinished;
      if (isStillDue && isFinished(stored.request)) await store.remove(key);
      else await this.handleSafely(key);
    });
  }
}
