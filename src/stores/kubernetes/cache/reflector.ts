/**
 * The DiskExports of a namespace, kept as the API server has them: a list, then a watch from where the list ends, and again
 * from the last event when that has ended. "Efficient detection of changes" in the Kubernetes documentation.
 */

import { throwIfAborted } from '../../../common/abortable.ts';
import type { Clock } from '../../../common/clock.ts';
import { DiskliftError } from '../../../common/errors.ts';
import { type Backoff, backoffDelayMs } from '../../../common/retry.ts';
import { startTimeLimit } from '../../../common/time-limit.ts';
import { isApiFailure, statusError, unusableError } from '../client/api-failure.ts';
import type { ExportObject, KubeResource, Reflector, WatchEvent } from '../client/contract.ts';
import { ObjectCache } from './object-cache.ts';

export interface ReflectorOptions {
  exports: Pick<KubeResource<ExportObject>, 'list' | 'watch'>;
  namespace: string;
  /** Called with the key of each object at first and after each full list, and of each that comes, changes or goes. Must not throw. */
  onKey(key: string): void;
  clock: Clock;
  /** Gives numbers from 0 up to, and not with, 1. */
  random(): number;
  warn(message: string): void;
}

export interface RunningReflector extends Reflector {
  /** Keeps the objects until `signal` is aborted. Never throws. */
  run(signal: AbortSignal): Promise<void>;
}

/** Whatever a watch may have missed is found by then. */
const RELIST_MS = 600_000;

/**
 * How long a watch lasts, so that they do not all end at a time. Longer ones would find out later that their connection leads
 * nowhere any more; shorter ones would cost a request more often.
 */
const WATCH_SECONDS = { least: 120, spread: 120 };

/** How much later than it has to a server may end a watch. */
const GRACE_MS = 15_000;

/** A watch that ends sooner and has told nothing is taken for a failure: else it would be begun again without a pause. */
const MIN_WATCH_MS = 1000;

/** How often a watch may fail in a row before a list has to set it right. */
const WATCHES_BEFORE_LIST = 3;

const BACKOFF: Backoff = { baseMs: 500, capMs: 30_000 };

export function createReflector(options: ReflectorOptions): RunningReflector {
  return new ExportReflector(options);
}

class ExportReflector implements RunningReflector {
  hasSynced = false;
  problem: DiskliftError | undefined;
  private readonly options: ReflectorOptions;
  private readonly cache: ObjectCache;
  /** Where the next watch begins; undefined when only a list can tell. */
  private resourceVersion: string | undefined;
  private listedMs = 0;
  private successMs: number | undefined;
  private successMonotonicMs: number | undefined;
  private failedAttempts = 0;
  /** What the last warning was about, until the API server is well again. */
  private warned: string | undefined;

  constructor(options: ReflectorOptions) {
    this.options = options;
    this.cache = new ObjectCache(options);
  }

  get(key: string): ExportObject | undefined {
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

  private untilRelistMs(): number {
    return this.listedMs + RELIST_MS - this.options.clock.monotonicMs();
  }

  private hear(): void {
    this.problem = undefined;
    this.successMs = this.options.clock.nowMs();
    this.successMonotonicMs = this.options.clock.monotonicMs();
  }

  private succeed(): void {
    this.hear();
    this.failedAttempts = 0;
    if (this.warned !== undefined) this.options.warn('the API server answers again');
    this.warned = undefined;
  }

  private async list(signal: AbortSignal): Promise<void> {
    const { exports, namespace, clock, onKey } = this.options;
    const startMs = clock.monotonicMs();
    const { items, resourceVersion } = await exports.list(namespace, { signal });
    const gone = this.cache.replaceAll(items);
    this.resourceVersion = resourceVersion;
    this.listedMs = startMs;
    this.hasSynced = true;
    this.succeed();
    for (const key of gone) onKey(key);
    for (const key of this.cache.keys()) onKey(key);
  }

  private async watch(signal: AbortSignal): Promise<void> {
    const { exports, namespace, clock, random } = this.options;
    const spreadSeconds = WATCH_SECONDS.least + Math.floor(random() * WATCH_SECONDS.spread);
    const timeoutSeconds = Math.max(1, Math.min(spreadSeconds, Math.ceil(this.untilRelistMs() / 1000)));
    const silent = unusableError(`watch diskexports of ${namespace}`, `it is silent for longer than ${timeoutSeconds} s`);
    const limit = startTimeLimit({ clock, limitMs: timeoutSeconds * 1000 + GRACE_MS, expired: silent });
    const startMs = clock.monotonicMs();
    let isQuiet = true;
    try {
      const resourceVersion = this.resourceVersion as string;
      const ended = AbortSignal.any([signal, limit.signal]);
      const onOpen = () => this.hear();
      for await (const event of exports.watch(namespace, { resourceVersion, timeoutSeconds, signal: ended, onOpen })) {
        this.take(event);
        isQuiet = false;
      }
    } finally {
      limit.stop();
    }
    throwIfAborted(signal);
    if (isQuiet && clock.monotonicMs() - startMs < MIN_WATCH_MS)
      throw unusableError(`watch diskexports of ${namespace}`, 'it ends as soon as it has begun');
    this.succeed();
  }

  /** @throws DiskliftError when the event says that the watch has failed */
  private take({ type, object }: WatchEvent): void {
    if (type === 'ERROR') throw statusError(`watch diskexports of ${this.options.namespace}`, object);
    const { resourceVersion } = (object as Partial<ExportObject>).metadata ?? {};
    if (typeof resourceVersion === 'string') this.resourceVersion = resourceVersion;
    this.succeed();
    if (type === 'BOOKMARK') return;
    const key = type === 'DELETED' ? this.cache.remove(object) : this.cache.put(object);
    if (key !== undefined) this.options.onKey(key);
  }

  private async backOff(error: unknown, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    const { clock, random, warn } = this.options;
    const problem = error instanceof DiskliftError ? error : new DiskliftError('StoreUnavailable', `internal error: ${error}`, error);
    this.failedAttempts += 1;
    // What passes needs no full list, unless it comes again and again: an event that cannot be read would be sent anew each time.
    const passes = isApiFailure(problem, 'Throttled') || isApiFailure(problem, 'Unavailable');
    if (!passes || this.failedAttempts >= WATCHES_BEFORE_LIST) this.resourceVersion = undefined;
    // The first list after a 410 need not wait.
    if (isApiFailure(problem, 'Expired') && this.failedAttempts === 1) return;
    if (this.warned !== problem.message) warn(problem.message);
    this.warned = problem.message;
    this.problem = problem;
    const delayMs = backoffDelayMs(BACKOFF, { failedAttempts: this.failedAttempts, retryAfterMs: problem.retryAfterMs }, random);
    await clock.delay(delayMs, signal).catch(() => {});
  }
}
