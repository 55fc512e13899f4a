/** A server's answer: its parts that matter for an upload, how they are read, and the digests that its headers name. */

import { createHash, type Hash } from 'node:crypto';
import type http from 'node:http';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { KIB, MIB } from '../../common/bytes.ts';
import type { Clock } from '../../common/clock.ts';
import { DiskliftError } from '../../common/errors.ts';

/** The parts of a server's answer that matter for the upload. */

export interface Answer {
  status: number;
  headers: Readonly<Record<string, string | undefined>>;
  /** The beginning of the server's text. */
  text: string;
  /** Whether `text` is the whole text. */
  isTextWhole: boolean;
  /**
   * Digests of the whole text, in hex, by each algorithm that the headers name; undefined where the text did not end.
   */
  textDigests: ReadonlyMap<string, string> | undefined;
  /** Whether the server's words may be shown: its text, and the headers that hold words. */
  mayQuote: boolean;
  /** Whether the whole body had been sent when the answer came. */
  wasComplete: boolean;
  /**
   * Bytes of the body sent after the server's 100 Continue, or of a body that was sent whole. The server has begun to
   * store them.
   */
  takenBytes: number;
}

/** Limit of the beginning of a text that is kept. */
const MAX_KEPT_BYTES = 64 * KIB;

/** Limit of a text of which only the beginning is shown, because the status decides. */
const MAX_SHORT_BYTES = 4 * KIB;
const MAX_SHORT_MS = 1000;

/** Limit of a text that must be complete before the answer can be judged. */
const MAX_WHOLE_BYTES = 64 * MIB;
const MAX_WHOLE_MS = 30_000;

interface Facts extends Pick<Answer, 'mayQuote'> {
  clock: Clock;
  /** Called when the answer's head has arrived. */
  sent(): Pick<Answer, 'wasComplete' | 'takenBytes'>;
}

/**
 * Never fails: when the connection breaks, the text ends there. The whole text matters in two cases: a digest in the
 * head may be the text's own, and a 207 reports the upload's outcome in the text.
 */
export async function readAnswer(response: http.IncomingMessage, { clock, mayQuote, sent: askSent }: Facts): Promise<Answer> {
  const { statusCode: status = 0 } = response;
  const headers = singleHeaders(response);
  const algorithms = namedDigests(headers).map(({ algorithm }) => algorithm);
  const isWanted = algorithms.length > 0 || status === 207;
  const text = new AnswerText(response, { algorithms, maxBytes: isWanted ? MAX_WHOLE_BYTES : MAX_SHORT_BYTES });
  // Node may report the answer a moment before it reports that the last bytes have left.
  await nextTurn();
  const sent = askSent();
  const stop = new AbortController();
  await Promise.race([text.done, clock.delay(isWanted ? MAX_WHOLE_MS : MAX_SHORT_MS, stop.signal)]);
  stop.abort(new DiskliftError('Cancelled', 'read'));
  return { status, headers, ...text.soFar(), mayQuote, ...sent };
}

class AnswerText {
  /** Resolves at the end of the text, at its limit and when the connection breaks. */
  readonly done: Promise<void>;
  private readonly hashes: ReadonlyMap<DigestAlgorithm, Hash>;
  private readonly kept: Buffer[] = [];
  private bytes = 0;
  private hasEnded = false;

  constructor(response: http.IncomingMessage, { algorithms, maxBytes }: { algorithms: DigestAlgorithm[]; maxBytes: number }) {
    this.hashes = new Map(algorithms.map((algorithm) => [algorithm, createHash(algorithm)]));
    this.done = new Promise((resolve) => {
      response.on('data', (bytes: Buffer) => {
        if (this.bytes < MAX_KEPT_BYTES) this.kept.push(bytes.subarray(0, MAX_KEPT_BYTES - this.bytes));
        for (const hash of this.hashes.values()) hash.update(bytes);
        this.bytes += bytes.length;
        if (this.bytes >= maxBytes) resolve();
      });
      response.on('end', () => {
        this.hasEnded = response.complete;
        resolve();
      });
      response.on('error', () => resolve()).on('close', resolve);
    });
  }

  soFar(): Pick<Answer, 'text' | 'isTextWhole' | 'textDigests'> {
    // In streaming mode the decoder omits a truncated character.
    const text = new TextDecoder().decode(Buffer.concat(this.kept), { stream: true });
    const isTextWhole = this.hasEnded && this.bytes <= MAX_KEPT_BYTES;
    if (!this.hasEnded) return { text, isTextWhole, textDigests: undefined };
    return { text, isTextWhole, textDigests: new Map([...this.hashes].map(([algorithm, hash]) => [algorithm, hash.digest('hex')])) };
  }
}

export function singleHeaders({ headers }: http.IncomingMessage): Record<string, string | undefined> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, Array.isArray(value) ? value[0] : value]));
}

/** Names of algorithms in node:crypto. */
export type DigestAlgorithm = 'sha256' | 'sha512' | 'md5';

export interface NamedDigest {
  algorithm: DigestAlgorithm;
  hex: string;
}

interface DigestHeader {
  /** As Node has it. */
  name: string;
  algorithm: DigestAlgorithm;
  /** The first group is the digest, in base64 or hexadecimal digits. */
  pattern: RegExp;
}

/** In the order of their worth. */
const HEADERS: readonly DigestHeader[] = [
  // RFC 9530, section 3
  { name: 'repr-digest', algorithm: 'sha256', pattern: /(?:^|,)\s*sha-256=:([A-Za-z0-9+/]{43}=):/ },
  { name: 'repr-digest', algorithm: 'sha512', pattern: /(?:^|,)\s*sha-512=:([A-Za-z0-9+/]{86}==):/ },
  // RFC 3230, section 4.3.2, the predecessor of Repr-Digest; some servers write hexadecimal digits instead of base64.
  { name: 'digest', algorithm: 'sha256', pattern: /(?:^|,)\s*sha-256=([A-Za-z0-9+/]{43}=|[0-9a-f]{64})\s*(?:$|,)/i },
  { name: 'digest', algorithm: 'sha512', pattern: /(?:^|,)\s*sha-512=([A-Za-z0-9+/]{86}==|[0-9a-f]{128})\s*(?:$|,)/i },
  { name: 'digest', algorithm: 'md5', pattern: /(?:^|,)\s*md5=([A-Za-z0-9+/]{22}==|[0-9a-f]{32})\s*(?:$|,)/i },
  // Amazon S3, for a PUT by a presigned URL that requests a checksum
  { name: 'x-amz-checksum-sha256', algorithm: 'sha256', pattern: /^\s*([A-Za-z0-9+/]{43}=)\s*$/ },
  // Registries (OCI distribution specification)
  { name: 'docker-content-digest', algorithm: 'sha256', pattern: /^\s*sha256:([0-9a-f]{64})\s*$/ },
  // RFC 1864
  { name: 'content-md5', algorithm: 'md5', pattern: /^\s*([A-Za-z0-9+/]{22}==|[0-9a-f]{32})\s*$/i },
  // Google Cloud Storage
  { name: 'x-goog-hash', algorithm: 'md5', pattern: /(?:^|,)\s*md5=([A-Za-z0-9+/]{22}==)\s*(?:$|,)/ },
];

/** @returns all digests in the headers, the strongest first, even those of other bytes than the image's */
function namedDigests(headers: Answer['headers']): NamedDigest[] {
  return HEADERS.flatMap(({ name, algorithm, pattern }) => {
    const value = headers[name]?.match(pattern)?.[1];
    if (value === undefined) return [];
    const hex = /^[0-9a-f]+$/i.test(value) ? value.toLowerCase() : Buffer.from(value, 'base64').toString('hex');
    return [{ algorithm, hex }];
  });
}

/** The digest of the image. Excludes the digest of the answer's own text, which some servers add to every answer. */
export function imageDigest({ headers, textDigests }: Pick<Answer, 'headers' | 'textDigests'>): NamedDigest | undefined {
  return namedDigests(headers).find(({ algorithm, hex }) => textDigests?.get(algorithm) !== hex);
}
