/**
 * Keeps a copy of all objects of one kind, in one namespace or in all: it lists them, and then watches from the version
 * of the list. When a watch ends, the next one begins at the last event. "Efficient detection of changes" in the
 * Kubernetes documentation.
 */

import { throwIfAborted } from '../../../common/abortable.ts';
import type { Clock } from '../../../common/clock.ts';
import { DiskliftError } from '../../../common/errors.ts';
import { type Backoff, backoffDelayMs } from '../../../common/retry.ts';
import { startTimeLimit } from '../../../common/time-limit.ts';
import { isApiFailure, statusError, unusableError } from '../client/api-failure.ts';
import { type KubeResource, type NamespaceScope, namespaceText, type Reflector, type WatchEvent } from '../client/contract.ts';
import type { AnyObject } from '../client/objects.ts';
import { metadataOf, ObjectCache } from './object-cache.ts';

export interface ReflectorOptions<T extends AnyObject> {
  resource: Pick<KubeResource<T>, 'description' | 'list' | 'watch'>;
  /** {@link ALL_NAMESPACES} for a cluster-scoped kind. */
  namespace: NamespaceScope;
  /** Restricts the copy to objects with these labels. */
  labelSelector?: string;
  /**
   * Returns the object to cache in place of the received one, such as one without unused fields. May get its own result
   * again. Must not throw.
   */
  transform?: ((object: T) => T) | undefined;
  /** While the CRD of the kind is not installed, the copy is complete and empty. */
  isOptional?: boolean;
  /**
   * Called with the key of every object after a list, and with the key of an object that was added, changed or removed.
   * Must not throw.
   */
  onKey(key: string): void;
  clock: Clock;
  /** Returns a number in [0, 1). */
  random(): number;
  warn(message: string): void;
}

export interface RunningReflector<T extends AnyObject> extends Reflector<T> {
  /** Keeps the copy up to date until `signal` is aborted. Never throws. */
  run(signal: AbortSignal): Promise<void>;
}

/** A list this often finds what a watch has missed. */
const RELIST_MS = 600_000;

/**
 * Duration of a watch; random, so that the watches of many processes do not end at the same time. A longer watch would
 * detect a dead connection later. A shorter one would cost more requests.
 */
const WATCH_SECONDS = { min: 120, spread: 120 };

/** A server may end a watch this much later than requested. */
const GRACE_MS = 15_000;

/**
 * A watch without events that ends sooner counts as a failure. Otherwise the next watch would begin without a pause,
 * again and again.
 */
const MIN_WATCH_MS = 1000;

/** After this many failed watches in a row the reflector lists all objects again. */
const WATCHES_BEFORE_LIST = 3;

/** A CRD that is installed later is detected after this time. */
const ABSENT_KIND_MS = 60_000;

const BACKOFF: Backoff = { baseMs: 500, capMs: 30_000 };

export function createReflector<T extends AnyObject>(options: ReflectorOptions<T>): RunningReflector<T> {
  return new ListAndWatch(options);
}

class ListAndWatch<T extends AnyObject> implements RunningReflector<T> {
  hasSynced = false;
  problem: DiskliftError | undefined;
  private readonly options: ReflectorOptions<T>;
  private readonly cache: ObjectCache<T>;
  /** `watch diskexports of NAMESPACE` in messages. */
  private readonly watchText: string;
  /** Version at which the next watch begins; undefined when a list must come first. */
  private resourceVersion: string | undefined;
  private listedMs = 0;
  private successMs: number | undefined;
  private successMonotonicMs: number | undefined;
  private failedAttempts = 0;
  /** Whether the last answer was that the CRD of an optional kind is not installed. */
  private isKindAbsent = false;
  /** The last warning, until the API server answers again. A warning is not repeated. */
  private warned: string | undefined;

  constructor(options: ReflectorOptions<T>) {
    this.options = options;
    this.cache = new ObjectCache(options);
    this.watchText = `watch ${options.resource.description.plural} of ${namespaceText(options.namespace)}`;
  }

  get(key: string): T | undefined {
    return this.cache.get(key);
  }

  keys(): Iterable<string> {
    return this.cache.keys();
  }

  lastSuccessMs(): number | undefined {
    return this.successMs;
  }

  silenceMs(): number | undefined {
    return this.successMonotonicMs === undefined ? undefined : this.options.clock.monotonicMs() - this.successMonotonicMs;
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        if (this.resourceVersion === undefined || this.untilRelistMs() <= 0) await this.list(signal);
        await this.watch(signal);
      } catch (error) {
        await this.backOff(error, signal);
      }
    }
  }

  private get crdText(): string {
    const { plural, group } = this.options.resource.description;
    return `the CRD ${plural}.${group}`;
  }

  private untilRelistMs(): number {
    return this.listedMs + RELIST_MS - this.options.clock.monotonicMs();
  }

  private recordAnswer(): void {
    this.problem = undefined;
    this.successMs = this.options.clock.nowMs();
    this.successMonotonicMs = this.options.clock.monotonicMs();
  }

  private recordSuccess(): void {
    this.recordAnswer();
    this.failedAttempts = 0;
    if (this.warned !== undefined) this.options.warn('the API server answers again');
    this.warned = undefined;
  }

  private async list(signal: AbortSignal): Promise<void> {
    const { resource, namespace, labelSelector, clock } = this.options;
    const startMs = clock.monotonicMs();
    const prepare = (object: T) => this.cache.slim(object);
    const { items, resourceVersion } = await resource.list(namespace, { signal, prepare, ...(labelSelector && { labelSelector }) });
    if (this.isKindAbsent) this.options.warn(`${this.crdText} is installed now`);
    this.isKindAbsent = false;
    this.resourceVersion = resourceVersion;
    this.listedMs = startMs;
    this.recordSuccess();
    this.replaceAll(items);
  }

  private replaceAll(items: readonly unknown[]): void {
    const removed = this.cache.replaceAll(items);
    this.hasSynced = true;
    for (const key of removed) this.options.onKey(key);
    for (const key of this.cache.keys()) this.options.onKey(key);
  }

  private async watch(signal: AbortSignal): Promise<void> {
    const { resource, namespace, labelSelector, clock, random } = this.options;
    const spreadSeconds = WATCH_SECONDS.min + Math.floor(random() * WATCH_SECONDS.spread);
    const timeoutSeconds = Math.max(1, Math.min(spreadSeconds, Math.ceil(this.untilRelistMs() / 1000)));
    const silent = unusableError(this.watchText, `it is silent for longer than ${timeoutSeconds} s`);
    const limit = startTimeLimit({ clock, limitMs: timeoutSeconds * 1000 + GRACE_MS, expired: silent });
    const startMs = clock.monotonicMs();
    let isQuiet = true;
    try {
      const resourceVersion = this.resourceVersion as string;
      const ended = AbortSignal.any([signal, limit.signal]);
      const onOpen = () => this.recordAnswer();
      const limits = { timeoutSeconds, signal: ended };
      for await (const event of resource.watch(namespace, { resourceVersion, labelSelector, ...limits, onOpen })) {
        this.apply(event);
        isQuiet = false;
      }
    } finally {
      limit.stop();
    }
    throwIfAborted(signal);
    if (isQuiet && clock.monotonicMs() - startMs < MIN_WATCH_MS) throw unusableError(this.watchText, 'it ends as soon as it has begun');
    this.recordSuccess();
  }

  /** @throws DiskliftError when the event reports that the watch has failed */
  private apply({ type, object }: WatchEvent): void {
    if (type === 'ERROR') throw statusError(this.watchText, object);
    const { resourceVersion } = metadataOf(object);
    if (typeof resourceVersion === 'string') this.resourceVersion = resourceVersion;
    this.recordSuccess();
    if (type === 'BOOKMARK') return;
    const key = type === 'DELETED' ? this.cache.remove(object) : this.cache.put(object);
    if (key !== undefined) this.options.onKey(key);
  }

  private async backOff(error: unknown, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    const { clock, random, warn, isOptional = false } = this.options;
    if (isOptional && isApiFailure(error, 'NotFound')) return this.awaitKind(signal);
    const problem = error instanceof DiskliftError ? error : new DiskliftError('StoreUnavailable', `internal error: ${error}`, error);
    this.failedAttempts += 1;
    // A short outage needs no list. Repeated failures do: the API server would send an unreadable event again in each
    // watch.
    const isOutage = isApiFailure(problem, 'Throttled') || isApiFailure(problem, 'Unavailable');
    if (!isOutage || this.failedAttempts >= WATCHES_BEFORE_LIST) this.resourceVersion = undefined;
    // The first list after a 410 need not wait.
    if (isApiFailure(problem, 'Expired') && this.failedAttempts === 1) return;
    if (this.warned !== problem.message) warn(problem.message);
    this.warned = problem.message;
    this.problem = problem;
    const delayMs = backoffDelayMs(BACKOFF, { failedAttempts: this.failedAttempts, retryAfterMs: problem.retryAfterMs }, random);
    await clock.delay(delayMs, signal).catch(() => {});
  }

  /**
   * Waits for a CRD to be installed. Its absence is an answer of the API server, not a failure. After a watch of an
   * absent kind, a list has to confirm the absence.
   */
  private async awaitKind(signal: AbortSignal): Promise<void> {
    const { clock, warn } = this.options;
    const isConfirmed = this.resourceVersion === undefined;
    this.recordAnswer();
    this.failedAttempts = 0;
    this.resourceVersion = undefined;
    if (isConfirmed) {
      if (!this.isKindAbsent) warn(`${this.crdText} is not installed; disklift looks for it every minute`);
      this.isKindAbsent = true;
      this.replaceAll([]);
    }
    await clock.delay(isConfirmed ? ABSENT_KIND_MS : BACKOFF.baseMs, signal).catch(() => {});
  }
}
