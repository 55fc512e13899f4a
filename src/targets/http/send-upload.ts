/** One request that carries a whole image, to the answer. */

import http from 'node:http';
import https from 'node:https';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { abortable } from '../../common/abortable.ts';
import { MIB } from '../../common/bytes.ts';
import type { Clock } from '../../common/clock.ts';
import { DiskliftError } from '../../common/errors.ts';
import { allocateIoBuffer } from '../../common/io-buffer.ts';
import type { VirtualImage } from '../../image/contract.ts';
import type { Seal, TransferContext } from '../contract.ts';
import { networkError } from '../network-error.ts';
import type { Answer } from './judge-answer.ts';
import { publicUrl } from './public-url.ts';
import type { Origin } from './redirect.ts';

export interface UploadLimits {
  /** Until a connection stands, TLS included. */
  connectMs: number;
  /** How long a server may take to say 100; many never do. */
  continueMs: number;
  /** Without a byte being taken. */
  idleMs: number;
  /** From the last byte to the answer: a server may have to write everything to its disks first. */
  answerMs: number;
}

export interface Upload {
  origin: Origin;
  method: 'PUT' | 'POST';
  ifNoneMatch: boolean;
  /** Whether to ask before the body is sent (RFC 9110, section 10.1.1). */
  expectContinue: boolean;
  image: VirtualImage;
  context: TransferContext;
  clock: Clock;
  limits: UploadLimits;
}

/** Held back until the seal: a body that lacks it is not complete, whatever the source has become. */
const SEALED_TAIL_BYTES = 2 * MIB;

/** Of an answer's text. */
const LONGEST_TEXT_BYTES = 4096;
const LONGEST_TEXT_MS = 1000;

/**
 * @returns the answer, and the seal when the body got as far
 * @throws DiskliftError `DestinationUnreachable`; and what reading or sealing the image throws
 */
export async function sendUpload(upload: Upload): Promise<{ answer: Answer; seal: Seal }> {
  const { image, context, limits } = upload;
  const where = publicUrl(upload.origin.url);
  const request = openRequest(upload);
  const connection = watch(request, upload.clock);
  const within = <T>(promise: Promise<T>, limitMs: number, what: string) => withLimit(promise, limitMs, `${where}: ${what}`, upload);
  let seal: Seal = {};

  /** Gives false when the server has answered and wants no more. */
  async function write(bytes: Uint8Array): Promise<boolean> {
    // An answer that is there already must be heard first: a write to a server that has closed would lose it.
    await nextTurn();
    if (connection.hasAnswered()) return false;
    const written = new Promise<boolean>((resolve, reject) => {
      request.write(bytes, (error) => (error ? reject(error) : resolve(true)));
    });
    return within(Promise.race([written, connection.answered.then(() => false)]), limits.idleMs, 'takes no more bytes');
  }

  async function sendBody(): Promise<void> {
    const tail = allocateIoBuffer(Math.min(SEALED_TAIL_BYTES, image.sizeBytes));
    const tailStart = image.sizeBytes - tail.length;
    let sentBytes = 0;
    if (tailStart > 0)
      for await (const chunk of image.stream({ end: tailStart, signal: context.signal })) {
        if (!(await write(chunk))) return;
        sentBytes += chunk.length;
        context.progress(sentBytes);
      }
    for await (const chunk of image.stream({ start: tailStart, signal: context.signal })) {
      tail.set(chunk, sentBytes - tailStart);
      sentBytes += chunk.length;
    }
    seal = await context.seal();
    if (connection.hasAnswered()) return;
    connection.end(tail);
    context.progress(image.sizeBytes);
  }

  try {
    await within(Promise.race([connection.connected, connection.answered]), limits.connectMs, 'no connection');
    if (upload.expectContinue) await leaveToSend(connection, upload);
    if (!connection.hasAnswered()) await sendBody();
    return { answer: await within(connection.answered, limits.answerMs, 'no answer'), seal };
  } catch (error) {
    throw isNetworkError(error) ? networkError(where, error) : error;
  } finally {
    request.destroy();
  }
}

function openRequest({ origin, method, ifNoneMatch, expectContinue, image }: Upload): http.ClientRequest {
  const { url, headers, tls } = origin;
  const options: https.RequestOptions = {
    method,
    // A connection of its own: nothing else depends on it when it has to be torn down.
    agent: false,
    headers: {
      'Content-Type': 'application/octet-stream',
      ...headers,
      'Content-Length': image.sizeBytes,
      ...(expectContinue ? { Expect: '100-continue' } : {}),
      ...(ifNoneMatch ? { 'If-None-Match': '*' } : {}),
    },
  };
  if (url.protocol === 'http:') return http.request(url, options);
  const { ca, certificate: cert, key, serverName: servername } = tls;
  return https.request(url, {
    ...options,
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert, key }),
    ...(servername === undefined ? {} : { servername }),
  });
}

interface Connection {
  connected: Promise<void>;
  answered: Promise<Answer>;
  hasAnswered(): boolean;
  /** The server has said 100. */
  continued: Promise<void>;
  end(lastBytes: Uint8Array): void;
}

function watch(request: http.ClientRequest, clock: Clock): Connection {
  let hasAnswered = false;
  let hasEnded = false;
  const continued = new Promise<void>((resolve) => request.once('continue', resolve));
  const connected = new Promise<void>((resolve, reject) => {
    request.once('error', reject);
    request.once('socket', (socket) => {
      socket.once('encrypted' in socket ? 'secureConnect' : 'connect', resolve);
    });
  });
  const answered = new Promise<Answer>((resolve, reject) => {
    request.on('error', reject);
    request.once('close', () => reject(Object.assign(new Error('closed'), { code: 'ECONNRESET' })));
    request.once('response', (response) => {
      hasAnswered = true;
      readAnswer(response).then(resolve, reject);
    });
  });

  async function readAnswer(response: http.IncomingMessage): Promise<Answer> {
    // Node may hear of the answer a moment before it hears that the last bytes have left.
    await nextTurn();
    const wasComplete = hasEnded && request.socket?.writableLength === 0;
    const stop = new AbortController();
    const text = await Promise.race([textOf(response), clock.delay(LONGEST_TEXT_MS, stop.signal).then(() => '')]);
    stop.abort(new DiskliftError('Cancelled', 'read'));
    return { status: response.statusCode ?? 0, headers: singleHeaders(response), text, wasComplete };
  }

  // Whoever waits for one of them hears of a failure; nobody has to wait for all.
  for (const promise of [connected, answered]) promise.catch(() => {});
  return {
    connected,
    continued,
    answered,
    hasAnswered: () => hasAnswered,
    end(lastBytes) {
      hasEnded = true;
      request.end(lastBytes);
    },
  };
}

/** Waits until the server has said 100, has answered, or has been silent for so long that it will not say it. */
async function leaveToSend({ continued, answered }: Connection, { clock, context, limits }: Upload): Promise<void> {
  const stop = new AbortController();
  try {
    await abortable(Promise.race([continued, answered, clock.delay(limits.continueMs, stop.signal)]), context.signal);
  } finally {
    stop.abort(new DiskliftError('Cancelled', 'heard'));
  }
}

async function textOf(response: http.IncomingMessage): Promise<string> {
  let text = '';
  try {
    for await (const chunk of response) {
      text += (chunk as Buffer).toString('latin1');
      if (text.length >= LONGEST_TEXT_BYTES) break;
    }
  } catch {
    // The status is what counts.
  }
  return text.slice(0, LONGEST_TEXT_BYTES);
}

function singleHeaders({ headers }: http.IncomingMessage): Record<string, string | undefined> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, Array.isArray(value) ? value[0] : value]));
}

function isNetworkError(error: unknown): boolean {
  return !(error instanceof DiskliftError) && error instanceof Error && 'code' in error;
}

async function withLimit<T>(promise: Promise<T>, limitMs: number, message: string, { context, clock }: Upload): Promise<T> {
  const stop = new AbortController();
  const late = clock.delay(limitMs, stop.signal).then(() => {
    throw new DiskliftError('DestinationUnreachable', `${message} (waited ${Math.round(limitMs / 1000)} s)`);
  });
  try {
    return await abortable(Promise.race([promise, late]), context.signal);
  } finally {
    stop.abort(new DiskliftError('Cancelled', 'in time'));
  }
}
