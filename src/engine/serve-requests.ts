/** Runs the requests of a store as they come: a few at a time, first come, first served, for as long as the process lives. */

import { type Backoff, backoffDelayMs } from '../common/backoff.ts';
import { type Budget, createBudget } from '../common/budget.ts';
import { DiskliftError } from '../common/errors.ts';
import type { Claim, RequestStore } from '../requests/contract.ts';
import type { DiskExport, DiskExportStatus } from '../requests/disk-export.ts';
import { abandonLeftovers, hasLeftovers, withoutUploads } from './abandon-leftovers.ts';
import type { EngineContext } from './context.ts';
import { invalidStatusOf, waitingStatusOf } from './idle-status.ts';
import type { ExportWatcher } from './observer.ts';
import type { ExportPlan } from './run-export.ts';
import { runRequest } from './run-request.ts';

export interface ServeOptions extends Pick<EngineContext, 'signal' | 'clock' | 'random'> {
  store: RequestStore;
  /** Why an export cannot be run here, or undefined when it can. */
  refusal(request: DiskExport): string | undefined;
  /** @throws DiskliftError when the disks or the destination cannot be */
  plan(request: DiskExport): Promise<ExportPlan>;
  watch(request: DiskExport): readonly ExportWatcher[];
  executor?: DiskExportStatus['executor'];
  maxConcurrentExports: number;
  warn(message: string, key?: string): void;
}

/** An export that waits for its turn or runs. */
interface Active {
  cancel: AbortController;
  done: Promise<void>;
}

const BACKOFF: Backoff = { baseMs: 1000, capMs: 60_000 };

/**
 * Returns when `signal` is aborted and everything has stopped. What was under way is left so that another process can go on.
 */
export function serveRequests(options: ServeOptions): Promise<void> {
  return new RequestServer(options).run();
}

class RequestServer {
  private readonly options: ServeOptions;
  /** Of exports that run at a time. */
  private readonly places: Budget;
  private readonly active = new Map<string, Active>();
  private readonly failures = new Map<string, number>();
  /** Aborted when the process is to end: exports stop where they are. */
  private readonly stop = new AbortController();
  /** Finished requests that are to go away by themselves. */
  private readonly expiring = new Set<string>();

  constructor(options: ServeOptions) {
    this.options = options;
    this.places = createBudget(options.maxConcurrentExports);
  }

  async run(): Promise<void> {
    const { store, signal } = this.options;
    const onAbort = () => this.stop.abort(new DiskliftError('ExecutorLost', 'the executor was stopped'));
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
    for await (const key of store.watch(signal)) await this.handleSafely(key);
    await Promise.allSettled([...this.active.values()].map(({ done }) => done));
  }

  /** What one request does must not keep the others from being served. */
  private async handleSafely(key: string): Promise<void> {
    try {
      await this.handle(key);
    } catch (error) {
      this.retryLater(key, error);
    }
  }

  private retryLater(key: string, error: unknown): void {
    const failedAttempts = (this.failures.get(key) ?? 0) + 1;
    this.failures.set(key, failedAttempts);
    const { clock, random, warn } = this.options;
    warn(error instanceof DiskliftError ? error.message : `internal error: ${(error as Error).stack ?? error}`, key);
    clock.delay(backoffDelayMs(BACKOFF, { failedAttempts }, random), this.stop.signal).then(
      () => this.handleSafely(key),
      () => {},
    );
  }

  private async handle(key: string): Promise<void> {
    const { store, clock, refusal } = this.options;
    const stored = await store.get(key);
    const active = this.active.get(key);
    if (stored === undefined) return active?.cancel.abort(new DiskliftError('Cancelled', 'the request was deleted'));
    if (stored.kind === 'invalid') {
      if (active !== undefined) return;
      const status = invalidStatusOf(stored, clock.nowMs());
      if (status !== undefined) await store.writeStatus(key, status);
      return;
    }
    const { request, deleting } = stored;
    if (deleting) active?.cancel.abort(new DiskliftError('Cancelled', 'the request is being deleted'));
    else if (request.spec.cancel) active?.cancel.abort(new DiskliftError('Cancelled', 'cancelled by spec.cancel'));
    if (active !== undefined) return;
    if (isFinished(request)) return hasLeftovers(request) ? this.start(key, () => this.cleanUp(key, request)) : this.finish(key, request);
    const reason = refusal(request);
    if (reason === undefined) return this.start(key, (cancelled) => this.runOne(key, cancelled), deleting || request.spec.cancel);
    // Somebody else may serve it; a request without any status is told so.
    if (request.status === undefined) await store.writeStatus(key, waitingStatusOf(request, { message: reason, nowMs: clock.nowMs() }));
  }

  /** Does `work` on a request aside, and looks at the request again behind it: more may have been asked for meanwhile. */
  private start(key: string, work: (cancelled: AbortSignal) => Promise<void>, isCancelled = false): void {
    const cancel = new AbortController();
    if (isCancelled) cancel.abort(new DiskliftError('Cancelled', 'cancelled by spec.cancel'));
    const done = work(cancel.signal).then(
      () => {
        this.active.delete(key);
        if (!this.stop.signal.aborted) return this.handleSafely(key);
      },
      (error: unknown) => {
        this.active.delete(key);
        this.retryLater(key, error);
      },
    );
    this.active.set(key, { cancel, done });
  }

  private async runOne(key: string, cancelled: AbortSignal): Promise<void> {
    const { store, clock } = this.options;
    const leave = await this.enter(cancelled);
    let claim: Claim | undefined;
    try {
      if (this.stop.signal.aborted) return;
      claim = await store.claim(key);
      if (claim === undefined) return;
      const stored = await store.get(key);
      if (stored?.kind !== 'request' || isFinished(stored.request)) return;
      const signal = AbortSignal.any([cancelled, this.stop.signal, lostSignal(claim)]);
      this.failures.delete(key);
      await runRequest({
        ...this.options,
        request: stored.request,
        signal,
        plan: () => this.options.plan(stored.request),
        watchers: this.options.watch(stored.request),
        confirm: claim.confirm,
        warn: (message) => this.options.warn(message, key),
        writeStatus: (status) => store.writeStatus(key, status),
        setCleanupPending: (pending) => store.setCleanupPending(key, pending),
        note: (event) => store.note(key, event),
        clock,
      });
    } finally {
      await claim?.release();
      leave();
    }
  }

  /** Drops what an earlier process has left open at the destination of a finished request. */
  private async cleanUp(key: string, request: DiskExport): Promise<void> {
    const { store, clock, plan } = this.options;
    const claim = await store.claim(key);
    if (claim === undefined) return;
    try {
      const keeper = { confirm: claim.confirm, save: async () => {} };
      await abandonLeftovers(request, await plan(request), { clock, keeper, observer: {} });
      await store.writeStatus(key, withoutUploads(request));
      await store.setCleanupPending(key, false);
      this.failures.delete(key);
    } finally {
      await claim.release();
    }
  }

  /** Waits for a place among those that run. A request that is cancelled meanwhile needs none. */
  private async enter(cancelled: AbortSignal): Promise<() => void> {
    try {
      return await this.places.acquire(1, AbortSignal.any([cancelled, this.stop.signal]));
    } catch {
      return () => {};
    }
  }

  /** Removes a finished request when its time has come. */
  private finish(key: string, request: DiskExport): void {
    const { ttlSecondsAfterFinished } = request.spec;
    const { completionTime } = request.status ?? {};
    if (ttlSecondsAfterFinished === undefined || completionTime === undefined || this.expiring.has(key)) return;
    const { clock, store } = this.options;
    const leftMs = Date.parse(completionTime) + ttlSecondsAfterFinished * 1000 - clock.nowMs();
    this.expiring.add(key);
    clock
      .delay(Math.max(0, leftMs), this.stop.signal)
      .then(async () => {
        this.expiring.delete(key);
        const stored = await store.get(key);
        // The time may have been changed meanwhile.
        const isStillDue = stored?.kind === 'request' && stored.request.spec.ttlSecondsAfterFinished === ttlSecondsAfterFinished;
        if (isStillDue && isFinished(stored.request)) await store.remove(key);
        else await this.handleSafely(key);
      })
      .catch((error: unknown) => {
        if (!this.stop.signal.aborted) this.options.warn(`cannot be removed: ${(error as Error).message}`, key);
      });
  }
}

function isFinished({ status }: DiskExport): boolean {
  return status?.completionTime !== undefined;
}

function lostSignal({ lost }: Claim): AbortSignal {
  const controller = new AbortController();
  const onLost = () => controller.abort(new DiskliftError('ExecutorLost', 'the claim was lost'));
  if (lost.aborted) onLost();
  else lost.addEventListener('abort', onLost, { once: true });
  return controller.signal;
}
