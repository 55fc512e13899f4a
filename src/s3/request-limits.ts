/**
 * Limits of one request to an S3 server: silence, the whole time, and the bytes of the answer. Distinguishes a silent
 * connection from a silent server.
 */

import { pipeline, type Readable, Transform } from 'node:stream';
import type { NodeHttpHandler } from '@smithy/node-http-handler';
import { abortable } from '../common/abortable.ts';
import { formatBytes, KIB, MIB } from '../common/bytes.ts';
import type { Clock } from '../common/clock.ts';
import { DiskliftError } from '../common/errors.ts';
import { isConnectTimeout } from './s3-error.ts';

/**
 * Activity of the server, as all requests of one attempt observe it. When a request has waited for its whole limit, and
 * no other request received anything, the next one is a probe. A probe has a twelfth of the limit. Thus a lost
 * connection is replaced at once, and a dead server ends the attempt within a tenth of the limit.
 */
export class Activity {
  heardMs = Number.NEGATIVE_INFINITY;
  /** Limit of a probe; undefined while the server is not silent. */
  probeMs: number | undefined;
  silentSinceMs = 0;
  failedProbes = 0;

  hear(nowMs: number): void {
    this.heardMs = nowMs;
    this.probeMs = undefined;
    this.failedProbes = 0;
  }
}

const PROBE_SHARE = 12;
/** For a limit so short that a twelfth would be over before a live server answers. */
const MIN_PROBE_MS = 250;

const silences = new WeakMap<Error, Activity>();

/**
 * Whether the server was silent for the whole limit of the request that failed with `error`, and for a probe after it.
 */
export function isServerSilent(error: unknown): boolean {
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause)
    if ((silences.get(cause)?.failedProbes ?? 0) > 0) return true;
  return false;
}

export interface Silence {
  signal: AbortSignal;
  /** Limit of a time in which nothing moves. */
  silentMs: number;
  /** Limit of the whole request, however steadily bytes move. None when left out. */
  limitMs?: number | undefined;
  /** Limit of the answer's body where the default is too small. */
  maxAnswerBytes?: number | undefined;
  /** Called whenever the request has failed. */
  onFailed?: (() => void) | undefined;
  where: string;
  clock: Clock;
  activity: Activity;
}

export interface Watched {
  /** For `send`: ends the request when it has taken too long or is not wanted any more, and bounds its answer. */
  http: { abortSignal: AbortSignal } & AnswerLimit;
  /** Call this whenever bytes have come from the server. */
  onMove(): void;
  /** Looks at a number that grows while bytes leave for the server. */
  watch(movedBytes: () => number): void;
}

/**
 * Ends `make` when nothing has moved for too long or the answer is too long, and leaves it behind when `signal` is
 * aborted.
 */
export async function withinSilence<T>(make: (watched: Watched) => Promise<T>, silence: Silence): Promise<T> {
  const { signal, onFailed, maxAnswerBytes } = silence;
  const failed = new AbortController();
  const request = new WatchedRequest(silence);
  const excess = Promise.withResolvers<never>();
  try {
    const answer = make({
      http: { abortSignal: AbortSignal.any([signal, failed.signal]), maxAnswerBytes, onExcess: excess.reject },
      onMove: () => request.hear(),
      watch: (movedBytes) => request.watch(movedBytes),
    });
    const result = await abortable(Promise.race([excess.promise, answer, request.silence()]), signal);
    request.hear();
    return result;
  } catch (error) {
    failed.abort(error);
    onFailed?.();
    if (!signal.aborted) request.judge(error as Error);
    throw error;
  } finally {
    request.stop();
  }
}

/** Looks at moving bytes within one limit. */
const LOOKS = 40;

class WatchedRequest {
  private readonly options: Silence;
  private readonly settled = new AbortController();
  private readonly silentMs: number;
  private readonly isProbe: boolean;
  private readonly startMs: number;
  private movedMs: number;
  private movedBytes: (() => number) | undefined;
  private lastBytes = 0;
  private failure: DiskliftError | undefined;

  constructor(options: Silence) {
    const { silentMs, clock, activity } = options;
    this.options = options;
    this.isProbe = activity.probeMs !== undefined;
    this.silentMs = Math.min(silentMs, activity.probeMs ?? silentMs);
    this.startMs = clock.monotonicMs();
    this.movedMs = this.startMs;
  }

  hear(): void {
    const { clock, activity } = this.options;
    this.movedMs = clock.monotonicMs();
    activity.hear(this.movedMs);
  }

  watch(movedBytes: () => number): void {
    this.movedBytes = movedBytes;
    this.lastBytes = movedBytes();
  }

  async silence(): Promise<never> {
    const { where, clock, activity, limitMs = Number.POSITIVE_INFINITY } = this.options;
    const endMs = this.startMs + limitMs;
    for (;;) {
      this.look();
      const nowMs = clock.monotonicMs();
      if (nowMs >= endMs)
        throw new DiskliftError('DestinationUnreachable', `${where}: the answer does not end (waited ${Math.round(limitMs / 1000)} s)`);
      const leftMs = this.movedMs + this.silentMs - nowMs;
      if (leftMs <= 0) {
        const waitedMs = nowMs - (this.isProbe ? activity.silentSinceMs : this.movedMs);
        this.failure = new DiskliftError('DestinationUnreachable', `${where}: no answer (waited ${Math.round(waitedMs / 1000)} s)`);
        throw this.failure;
      }
      await clock.delay(Math.min(leftMs, this.silentMs / LOOKS, endMs - nowMs), this.settled.signal);
    }
  }

  judge(error: Error): void {
    const { clock, activity } = this.options;
    if (error !== this.failure && !isConnectTimeout(error)) {
      // Any other failure is an answer, or comes from a network that is there.
      this.hear();
      return;
    }
    if (activity.heardMs > this.movedMs) return;
    silences.set(error, activity);
    if (this.isProbe) {
      activity.failedProbes += 1;
      return;
    }
    activity.silentSinceMs = this.movedMs;
    activity.probeMs = Math.max(MIN_PROBE_MS, (clock.monotonicMs() - this.movedMs) / PROBE_SHARE);
  }

  stop(): void {
    this.settled.abort(new DiskliftError('Cancelled', 'settled'));
  }

  private look(): void {
    const bytes = this.movedBytes?.() ?? 0;
    const hasMoved = bytes > this.lastBytes;
    this.lastBytes = bytes;
    // The kernel of a stuck server takes bytes as well, so only an answer ends a probe with success.
    if (!hasMoved || this.isProbe) return;
    const { clock, activity } = this.options;
    this.movedMs = clock.monotonicMs();
    activity.heardMs = this.movedMs;
  }
}

/** Limit of an answer that is no listing: a few hundred bytes, or a gateway's page of an error. */
const MAX_ANSWER_BYTES = 256 * KIB;

/** Limit of one page of an upload's parts: 1000 entries of some 500 bytes. */
export const MAX_PARTS_PAGE_BYTES = MIB;

/** Limit of one page of a bucket's uploads: 1000 entries, each with a key of up to 1024 bytes that XML may escape. */
export const MAX_UPLOADS_PAGE_BYTES = 4 * MIB;

/** Options of a request beside those of the SDK's handler, which passes them on unchanged. */
interface AnswerLimit {
  /** Limit of the body of a success; {@link MAX_ANSWER_BYTES} when left out. */
  maxAnswerBytes?: number | undefined;
  /**
   * Called once when the limit is exceeded. The SDK alters the errors that it passes on, so the request's own error
   * comes this way.
   */
  onExcess?(error: DiskliftError): void;
}

type Handler = Pick<NodeHttpHandler, 'handle'>;

/** @param where the server in a form that may be shown */
export function limitAnswers<T extends Handler>(handler: T, where: string): T {
  const handle = handler.handle.bind(handler);
  handler.handle = async (request, options?: Parameters<Handler['handle']>[1] & AnswerLimit) => {
    const { response } = await handle(request, options);
    const { maxAnswerBytes = MAX_ANSWER_BYTES, onExcess } = options ?? {};
    const maxBytes = response.statusCode < 300 ? maxAnswerBytes : MAX_ANSWER_BYTES;
    const excess = () =>
      onExcess?.(
        new DiskliftError(
          'DestinationRejected',
          `${where}: answered ${response.statusCode} with more than ${formatBytes(maxBytes)}; does the endpoint belong to an S3 server?`,
        ),
      );
    response.body = boundBody(response.body as Readable, maxBytes, excess);
    return { response };
  };
  return handler;
}

/** @returns the body, which fails and closes the connection behind the limit */
function boundBody(body: Readable, maxBytes: number, onExcess: () => void): Readable {
  let leftBytes = maxBytes;
  const bounded = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      leftBytes -= chunk.length;
      if (leftBytes >= 0) return done(null, chunk);
      onExcess();
      done(new Error('the answer is too long'));
    },
  });
  // The reader of `bounded` receives every failure.
  pipeline(body, bounded, () => {});
  return bounded;
}
