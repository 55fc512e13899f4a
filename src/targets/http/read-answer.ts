/** An answer as it comes from Node. */

import { createHash, type Hash } from 'node:crypto';
import type http from 'node:http';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { KIB, MIB } from '../../common/bytes.ts';
import type { Clock } from '../../common/clock.ts';
import { DiskliftError } from '../../common/errors.ts';
import type { Answer } from './answer.ts';
import { type DigestAlgorithm, namedDigests } from './named-digest.ts';

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
 * Never fails: when the connection breaks, the text ends there. The whole text matters in two cases: a digest in the head may be the
 * text's own, and a 207 reports the upload's outcome in the text.
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

function singleHeaders({ headers }: http.IncomingMessage): Record<string, string | undefined> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, Array.isArray(value) ? value[0] : value]));
}
