/** One file on an HTTP server, as answers to range requests (RFC 9110, section 14). */

import type http from 'node:http';
import { nodeHttp, nodeHttps } from '../../common/builtin.ts';
import type { Clock } from '../../common/clock.ts';
import { DiskliftError } from '../../common/errors.ts';
import { basicCredentials, unbracketed } from '../../common/http-url.ts';
import { parseRetryAfter } from '../../common/retry.ts';
import { whileMoving, withinLimit } from '../../common/time-limit.ts';
import { readBackLimitMs } from '../../network/answer-limits.ts';
import type { GuardedAgents } from '../../network/guarded-agent.ts';
import { closedError, networkError } from '../../network/network-error.ts';
import { type FileVersion, type RangeAnswer, type RangeServer, replaced, type WantedRange } from './range-server.ts';

export interface HttpRangeLimits {
  /** Limit of a connection and the head of the answer. */
  answerMs: number;
  /** Limit of silence between bytes. */
  silentMs: number;
}

const DEFAULT_LIMITS: HttpRangeLimits = { answerMs: 60_000, silentMs: 60_000 };

export interface HttpFileOptions {
  /** May hold secrets in its user and its query. */
  url: URL;
  /** Keep connections and apply the destination policy. */
  agents: GuardedAgents;
  clock: Clock;
  limits?: Partial<HttpRangeLimits> | undefined;
}

/** @returns the URL without user, query and fragment, which may be secret */
export function shownUrl({ origin, pathname }: URL): string {
  return `${origin}${pathname}`;
}

const MAX_REDIRECTS = 5;
const MAX_HEADER_BYTES = 65_536;

export function createHttpRanges({ url: first, agents, clock, limits: given }: HttpFileOptions): RangeServer {
  const limits = { ...DEFAULT_LIMITS, ...given };
  const name = shownUrl(first);
  /** Where the last redirect led; only a place of the same origin. */
  let url = first;

  async function get(range: WantedRange, signal: AbortSignal): Promise<RangeAnswer> {
    for (let redirects = 0; redirects <= MAX_REDIRECTS; redirects += 1) {
      const { answer, location } = await exchange(range, signal);
      if (answer !== undefined) return answer;
      url = redirected(location);
    }
    throw refusal(`redirects more than ${MAX_REDIRECTS} times`);
  }

  function refusal(why: string): DiskliftError {
    return new DiskliftError('SourceReadError', `${name}: ${why}`, undefined, { retryable: false });
  }

  function redirected(location: string | undefined): URL {
    const to = location === undefined ? null : URL.parse(location, url.href);
    if (to === null) throw refusal('redirects without a valid Location');
    if (to.origin !== url.origin) throw refusal(`redirects to another server, ${to.origin}; give the URL there`);
    if (to.username === '') [to.username, to.password] = [url.username, url.password];
    return to;
  }

  async function exchange(range: WantedRange, signal: AbortSignal): Promise<{ answer?: RangeAnswer; location?: string | undefined }> {
    const request = openRequest(url, agents, range);
    const limit = (limitMs: number, what: string) => ({
      ...{ limitMs, clock, signal },
      late: () => new DiskliftError('SourceReadError', `${name}: ${what} (waited ${Math.round(limitMs / 1000)} s)`),
    });
    let isWhole = false;
    try {
      const response = await withinLimit(responseOf(request), limit(limits.answerMs, 'no answer'));
      const status = response.statusCode ?? 0;
      if (REDIRECTS.has(status)) return { location: response.headers.location };
      if (status === 416 && range.start === 0) return { answer: emptyFile(response) };
      if (status !== 206) throw statusError(response, range);
      const { sizeBytes, end } = contentRange(response, range);
      const bytes = Buffer.allocUnsafeSlow(end - range.start);
      let movedMs = clock.monotonicMs();
      const whole = readBody(response, bytes, () => {
        movedMs = clock.monotonicMs();
      });
      const moving = whileMoving(whole, () => movedMs, limit(limits.silentMs, 'sends no more bytes'));
      await withinLimit(moving, limit(readBackLimitMs(bytes.length), 'its answer does not end'));
      isWhole = true;
      return { answer: { bytes, sizeBytes, version: versionOf(response) } };
    } catch (error) {
      throw sourceError(name, error);
    } finally {
      // The agent keeps the connection of a whole answer for the next request.
      if (!isWhole) request.destroy();
    }
  }

  /** @returns the range that the server has sent and the file's length */
  function contentRange({ headers }: http.IncomingMessage, { start, end }: WantedRange): { sizeBytes: number; end: number } {
    const encoding = headers['content-encoding'] ?? 'identity';
    if (encoding !== 'identity') throw refusal(`the server sends it encoded (${encoding.slice(0, 20)}), although it was asked not to`);
    const [, first, last, total] = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15})$/.exec(headers['content-range'] ?? '') ?? [];
    if (total === undefined) throw refusal('the answer to a range names no range that can be read (Content-Range)');
    const [sizeBytes, endSent] = [Number(total), Number(last) + 1];
    if (Number(first) !== start || endSent !== Math.min(end, sizeBytes))
      throw refusal(`the server answers with bytes ${first}-${last} to a request for ${start}-${end - 1}`);
    return { sizeBytes, end: endSent };
  }

  function emptyFile(response: http.IncomingMessage): RangeAnswer {
    const [, total] = /^bytes \*\/(\d{1,15})$/.exec(response.headers['content-range'] ?? '') ?? [];
    if (total !== '0') throw refusal('the server refuses the first bytes of the file (416)');
    return { bytes: new Uint8Array(0), sizeBytes: 0, version: versionOf(response) };
  }

  function statusError({ statusCode: status = 0, headers }: http.IncomingMessage, { version }: WantedRange): DiskliftError {
    if (status === 200)
      return refusal('the server ignores ranges (it answered 200 to Range); download the image, or serve it where ranges work');
    if (status === 412) return replaced(name);
    if (status === 404 || status === 410)
      return version === undefined
        ? new DiskliftError('SourceNotFound', `${name}: is not there (answered ${status})`)
        : new DiskliftError('SourceChanged', `${name}: was removed while it was read (answered ${status})`);
    if (status === 401 || status === 403)
      return new DiskliftError('SourcePermissionDenied', `${name}: may not be read (answered ${status}); look at its credentials`);
    const retryAfterMs = parseRetryAfter(headers['retry-after'], clock.nowMs());
    const retryable = status >= 500 || RETRYABLE.has(status);
    return new DiskliftError('SourceReadError', `${name}: answered ${status}`, undefined, { retryable, retryAfterMs });
  }

  return { name, get };
}

const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);
const RETRYABLE: ReadonlySet<number> = new Set([408, 425, 429]);

function openRequest(url: URL, { httpAgent, httpsAgent }: GuardedAgents, { start, end, version }: WantedRange): http.ClientRequest {
  const isSecure = url.protocol === 'https:';
  const { request } = isSecure ? nodeHttps() : nodeHttp();
  const authorization = basicCredentials(url);
  return request({
    agent: isSecure ? httpsAgent : httpAgent,
    host: unbracketed(url.hostname),
    port: url.port === '' ? (isSecure ? 443 : 80) : Number(url.port),
    path: `${url.pathname}${url.search}`,
    maxHeaderSize: MAX_HEADER_BYTES,
    headers: {
      Host: url.host,
      Range: `bytes=${start}-${end - 1}`,
      // A cache on the way, or a compressed copy, could differ from the stored bytes.
      'Accept-Encoding': 'identity',
      'Cache-Control': 'no-cache',
      ...conditionOf(version),
      ...(authorization === undefined ? {} : { Authorization: authorization }),
    },
  }).end();
}

/**
 * If-Match compares strong tags only (RFC 9110, section 13.1.1). The caller compares every answer's version as well.
 */
function conditionOf(version: FileVersion | undefined): http.OutgoingHttpHeaders {
  if (version?.etag !== undefined) return version.etag.startsWith('W/') ? {} : { 'If-Match': version.etag };
  return version?.modified === undefined ? {} : { 'If-Unmodified-Since': version.modified };
}

function versionOf({ headers }: http.IncomingMessage): FileVersion {
  return { etag: headers.etag, modified: headers['last-modified'] };
}

function responseOf(request: http.ClientRequest): Promise<http.IncomingMessage> {
  return new Promise((resolve, reject) => {
    request.once('response', resolve);
    request.on('error', reject);
    request.once('close', () => reject(closedError()));
  });
}

/** @throws Error where the body is not as long as `bytes` */
async function readBody(response: http.IncomingMessage, bytes: Buffer, onMove: () => void): Promise<void> {
  let done = 0;
  for await (const piece of response as AsyncIterable<Buffer>) {
    onMove();
    if (done + piece.length > bytes.length) throw lengthError(`more than ${bytes.length}`);
    bytes.set(piece, done);
    done += piece.length;
  }
  if (done < bytes.length) throw lengthError(`${done} of ${bytes.length}`);
}

function lengthError(what: string): Error {
  return Object.assign(new Error(`the server sent ${what} bytes`), { code: '' });
}

/** Errors of the way to the server, as errors of a source. */
export function sourceError(name: string, error: unknown): DiskliftError {
  const failure = error instanceof DiskliftError ? error : networkError(name, error);
  if (failure.code !== 'DestinationUnreachable' && failure.code !== 'DestinationRejected') return failure;
  const { message, retryable, retryAfterMs } = failure;
  return new DiskliftError('SourceReadError', message, failure, { retryable, retryAfterMs });
}
