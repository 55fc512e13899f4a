/** Files on a server that answers ranges: one version is pinned, and what fails is asked for again. */

import { abortable, cancelledError, throwIfAborted } from '../../common/abortable.ts';
import { MIB } from '../../common/bytes.ts';
import type { Clock } from '../../common/clock.ts';
import { DiskliftError } from '../../common/errors.ts';
import { type Limiter, mapConcurrently } from '../../common/limiter.ts';
import { retry } from '../../common/retry.ts';
import type { RangedFile } from './contract.ts';

/** The version of a file, as its server names it. */
export interface FileVersion {
  /** With its quotes, and W/ where it is weak. */
  etag?: string | undefined;
  /** Time of the last change, as the server writes it. */
  modified?: string | undefined;
}

export interface WantedRange {
  /** Offset of the first byte. */
  start: number;
  /** Offset behind the last byte. */
  end: number;
  /** The server must answer from this version; any version when left out. */
  version?: FileVersion | undefined;
}

export interface RangeAnswer {
  /** Shorter than requested only where the file ends. */
  bytes: Uint8Array;
  /** Length of the whole file. */
  sizeBytes: number;
  version: FileVersion;
}

export interface RangeServer {
  /** The file in messages. */
  readonly name: string;
  /**
   * Sends one request.
   * @throws DiskliftError, retryable where another request may succeed
   */
  get(range: WantedRange, signal: AbortSignal): Promise<RangeAnswer>;
}

export interface RangeOptions {
  clock: Clock;
  /** Gives numbers from 0 up to, but not including, 1. */
  random: () => number;
  /** Requests of the folder that run at the same time. */
  requestLimit: Limiter;
  /** Ends all requests of the folder. */
  closed: AbortSignal;
  retries?: Partial<RetryLimits> | undefined;
}

export interface RetryLimits {
  /** Tries of one request. */
  tries: number;
  /** Longest wait before the second try. */
  backoffMs: number;
  /** Upper bound of every wait, even where the server requires a longer one. */
  maxDelayMs: number;
}

const DEFAULT_RETRIES: RetryLimits = { tries: 5, backoffMs: 500, maxDelayMs: 30_000 };

/** The first request brings a header and the tables of a small image. */
const HEAD_SIZE_BYTES = 65_536;

/** Upper bound of one answer. A longer read is several requests. */
const MAX_REQUEST_BYTES = 4 * MIB;

/**
 * Opens a file and pins its version.
 * @throws DiskliftError as {@link RangeServer.get}
 */
export async function openRangedFile(server: RangeServer, options: RangeOptions, signal: AbortSignal): Promise<RangedFile> {
  const { clock, random, requestLimit, closed, retries } = options;
  const { tries, backoffMs, maxDelayMs } = { ...DEFAULT_RETRIES, ...retries };
  const { name } = server;

  function get(range: WantedRange, signal: AbortSignal): Promise<RangeAnswer> {
    const ending = AbortSignal.any([signal, closed]);
    throwIfAborted(ending);
    const task = () => requestLimit.run(() => server.get(range, ending), { signal: ending });
    const isRetryable = (error: unknown, failedAttempts: number) =>
      error instanceof DiskliftError && error.retryable && error.code === 'SourceReadError' && failedAttempts < tries;
    const backoff = { baseMs: backoffMs, capMs: maxDelayMs };
    const answer = retry(task, { isRetryable, backoff, maxDelayMs, clock, random, signal: ending });
    return abortable(answer, ending).catch((error: unknown) => {
      throw ending.aborted ? cancelledError(ending) : error;
    });
  }

  const head = await get({ start: 0, end: HEAD_SIZE_BYTES }, signal);
  const { sizeBytes, version } = head;
  requireLength(head, { name, start: 0, end: Math.min(HEAD_SIZE_BYTES, sizeBytes) });

  async function getPinned(start: number, end: number, signal: AbortSignal): Promise<Uint8Array> {
    const answer = await get({ start, end, version }, signal);
    if (!isSame(answer, head)) throw replaced(name);
    requireLength(answer, { name, start, end });
    return answer.bytes;
  }

  return {
    name,
    sizeBytes,
    identityMissesWrites: version.etag === undefined && version.modified === undefined,
    async read(buffer, offset, signal) {
      throwIfAborted(signal);
      const end = offset + buffer.length;
      if (end > sizeBytes) throw new DiskliftError('SourceChanged', `${name}: ends at offset ${sizeBytes}, and was to be read to ${end}`);
      if (end <= head.bytes.length) return buffer.set(head.bytes.subarray(offset, end));
      const starts = Array.from({ length: Math.ceil(buffer.length / MAX_REQUEST_BYTES) }, (_, index) => offset + index * MAX_REQUEST_BYTES);
      await mapConcurrently(starts, starts.length, async (start) => {
        const bytes = await getPinned(start, Math.min(start + MAX_REQUEST_BYTES, end), signal);
        buffer.set(bytes, start - offset);
      });
    },
    async identity() {
      // One byte shows the version; an empty file has none, and any answer shows its length.
      const now = await get({ start: 0, end: 1, version }, closed);
      if (!isSame(now, head)) throw replaced(name);
      return {
        size: `${sizeBytes}`,
        ...(version.etag === undefined ? {} : { etag: version.etag }),
        ...(version.modified === undefined ? {} : { modified: version.modified }),
      };
    },
  };
}

/** A tag decides where both answers have one. Otherwise the time does, which some servers keep in whole seconds. */
function isSame(a: RangeAnswer, b: RangeAnswer): boolean {
  if (a.sizeBytes !== b.sizeBytes || a.version.etag !== b.version.etag) return false;
  return a.version.etag !== undefined || a.version.modified === b.version.modified;
}

export function replaced(name: string): DiskliftError {
  return new DiskliftError('SourceChanged', `${name}: was replaced while it was read; begin again`);
}

function requireLength({ bytes }: RangeAnswer, { name, start, end }: { name: string; start: number; end: number }): void {
  if (bytes.length === end - start) return;
  throw new DiskliftError('SourceReadError', `${name}: the server sent ${bytes.length} of the ${end - start} bytes at offset ${start}`);
}
