/** Small files beside the images on an HTTP server. */

import { formatBytes } from '../../common/bytes.ts';
import { DiskliftError } from '../../common/errors.ts';
import { readHttpUrl } from '../../common/http-url.ts';
import { readBackLimitMs } from '../../network/answer-limits.ts';
import { repeatsSecret } from '../../network/server-message.ts';
import type { DestinationFiles, FileFacts } from '../contract.ts';
import { sendFile } from '../small-file.ts';
import type { Answer } from './answer.ts';
import { createHttpTarget, type HttpTargetOptions, LIMITS, MAX_REDIRECTS } from './http-target.ts';
import { judgeAnswer } from './judge-answer.ts';
import { followRedirect, type Origin, publicUrl, secretsOf } from './origin.ts';
import { type Query, sendQuery } from './send-query.ts';

/** @param options of the target of the images. Every place replaces the path of their URL and keeps its query */
export function createHttpFiles(options: HttpTargetOptions): DestinationFiles {
  const { access, clock, proxy = {}, secretName, headers = {}, tls = {} } = options;
  const limits = { ...LIMITS, ...options.limits };

  const originOf = (place: string): Origin => ({ url: urlOf(options.url, place), secretName, headers, tls });

  /** @returns the answer of the last origin; undefined where the file does not exist */
  async function ask(
    place: string,
    signal: AbortSignal,
    { method, range, body }: Pick<Query, 'method' | 'range'> & { body?: BodyReader },
  ): Promise<{ answer: Answer; origin: Origin } | undefined> {
    let origin = originOf(place);
    for (let redirects = 0; ; redirects += 1) {
      const wanted = body === undefined ? undefined : { take: body.take, limitMs: limits.readBackMs ?? readBackLimitMs(body.maxBytes) };
      const answer = await sendQuery({ origin, method, range, access, proxy, clock, limits, signal }, wanted);
      const { status } = answer;
      if (status === 404 || status === 410) return undefined;
      if (status === 200 || (status === 206 && range !== undefined)) return { answer, origin };
      if (!REDIRECTS.has(status) || redirects === MAX_REDIRECTS) throw refusal(answer, origin, clock.nowMs());
      origin = followRedirect(origin, answer);
    }
  }

  return {
    async read(place, maxBytes, signal) {
      const body = new BodyReader(maxBytes);
      const got = await ask(place, signal, { method: 'GET', body });
      if (got === undefined) return undefined;
      if (body.isTooLong) throw rejected(got.origin, `has more than ${formatBytes(maxBytes)}`);
      const statedBytes = lengthOf(got.answer);
      if (statedBytes !== undefined && statedBytes !== body.sizeBytes)
        throw rejected(got.origin, `the answer ended after ${body.sizeBytes} of ${statedBytes} bytes`, true);
      return { bytes: body.bytes(), etag: tagOf(got) };
    },
    async look(place, signal) {
      const head = await ask(place, signal, { method: 'HEAD' }).catch((error: unknown) => {
        // A server that does not support HEAD may support GET.
        if (error instanceof DiskliftError && error.code === 'DestinationRejected' && !error.retryable) return 'unsupported' as const;
        throw error;
      });
      if (head === undefined) return undefined;
      const got =
        head === 'unsupported' || lengthOf(head.answer) === undefined
          ? await ask(place, signal, { method: 'GET', body: new BodyReader(0) })
          : head;
      if (got === undefined) return undefined;
      const sizeBytes = lengthOf(got.answer);
      if (sizeBytes === undefined) throw rejected(got.origin, 'answered without a length');
      return { sizeBytes, etag: tagOf(got) };
    },
    async readRange(place, range, signal) {
      const body = new BodyReader(range.end - range.start, range);
      const got = await ask(place, signal, { method: 'GET', range, body });
      if (got === undefined) throw rejected(originOf(place), 'there is no such file');
      if (body.problem !== undefined) throw rejected(got.origin, body.problem);
      const { sizeBytes } = body;
      if (sizeBytes === range.end - range.start) return body.bytes();
      throw rejected(got.origin, `the answer ended after ${sizeBytes} of ${range.end - range.start} bytes`, true);
    },
    write: (place, bytes, signal) =>
      sendFile(createHttpTarget({ ...options, url: originOf(place).url.href, ifNoneMatch: false, method: 'PUT' }), bytes, signal),
    location: (place) => publicUrl(originOf(place)),
  };
}

/** Statuses after which a GET or a HEAD is repeated at another URL (RFC 9110, section 15.4). */
const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 307, 308]);

/** @throws DiskliftError `InvalidRequest` for a place that would lead to another path */
function urlOf(text: string, place: string): URL {
  const base = readHttpUrl(text);
  if ('problem' in base) throw new DiskliftError('InvalidRequest', `the destination's URL ${base.problem}`);
  const { username, password, protocol, host, search } = base.url;
  const reading = readHttpUrl(`${protocol}//${host}${place}`);
  if ('problem' in reading || reading.url.host !== host || reading.url.pathname !== place || !place.startsWith('/'))
    throw new DiskliftError('InvalidRequest', `${JSON.stringify(place)} is no path of the HTTP server as it would be sent`);
  const { url } = reading;
  [url.username, url.password, url.search] = [username, password, search];
  return url;
}

function refusal(answer: Answer, origin: Origin, nowMs: number): DiskliftError {
  const verdict = judgeAnswer({ ...answer, wasComplete: false }, { method: 'POST', origin, nowMs, hasSentBefore: false });
  return verdict instanceof DiskliftError ? verdict : rejected(origin, `answered ${answer.status}`);
}

function rejected(origin: Origin, what: string, retryable = false): DiskliftError {
  return new DiskliftError('DestinationRejected', `${publicUrl(origin)}: ${what}`, undefined, { retryable });
}

function lengthOf({ headers }: Answer): number | undefined {
  const text = headers['content-length'];
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

/** A tag is weak in the second in which a file changes, at some servers, and strong later. */
function tagOf({ answer: { headers }, origin }: { answer: Answer; origin: Origin }): FileFacts['etag'] {
  const tag = headers.etag?.replace(/^W\//, '') ?? headers['last-modified'];
  return tag === undefined || tag.length > MAX_TAG_CHARACTERS || repeatsSecret(tag, secretsOf(origin)) ? undefined : tag;
}

/** Limit of the status and of receipts. */
const MAX_TAG_CHARACTERS = 1024;

/** Keeps up to `maxBytes` of a body. */
class BodyReader {
  readonly maxBytes: number;
  sizeBytes = 0;
  isTooLong = false;
  problem: string | undefined;
  private readonly range: { start: number; end: number } | undefined;
  private readonly chunks: Buffer[] = [];
  /** Bytes in front of the range: a server without ranges sends the whole file. */
  private toSkip: number | undefined;

  constructor(maxBytes: number, range?: { start: number; end: number }) {
    this.maxBytes = maxBytes;
    this.range = range;
  }

  readonly take = (bytes: Buffer, { status, headers }: Pick<Answer, 'status' | 'headers'>): boolean => {
    const { range } = this;
    if (range !== undefined && status === 206 && headers['content-range']?.startsWith(`bytes ${range.start}-${range.end - 1}/`) !== true) {
      this.problem = 'did not answer with the requested bytes';
      return false;
    }
    this.toSkip ??= range !== undefined && status === 200 ? range.start : 0;
    const wanted = bytes.subarray(Math.min(this.toSkip, bytes.length));
    this.toSkip -= bytes.length - wanted.length;
    const kept = wanted.subarray(0, this.maxBytes - this.sizeBytes);
    this.isTooLong ||= kept.length < wanted.length;
    this.sizeBytes += kept.length;
    if (kept.length > 0) this.chunks.push(kept);
    return !this.isTooLong && !(range !== undefined && this.sizeBytes === this.maxBytes);
  };

  bytes(): Buffer {
    return Buffer.concat(this.chunks);
  }
}
