/** One request with a body, and its answer, on a connection of its own. */

import fs from 'node:fs';
import type http from 'node:http';
import type { Socket } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { cancelledError, throwIfAborted } from '../../common/abortable.ts';
import type { Clock } from '../../common/clock.ts';
import { closedError } from '../../network/network-error.ts';
import { type PaceWatch, takenBytes } from '../pace-watch.ts';
import { type Answer, readAnswer } from './answer.ts';

/** Silence before the first keep-alive probe. */
const KEEP_ALIVE_MS = 30_000;

export interface ExchangeOptions {
  /** Only its headers may have been sent. */
  request: http.ClientRequest;
  /** The connection of `request`. */
  socket: Socket;
  /** Whether the server's text may be shown. */
  mayQuote: boolean;
  sizeBytes: number;
  pace: PaceWatch;
  clock: Clock;
  signal: AbortSignal;
}

export class Exchange {
  /** Resolves when the server answers 100 Continue. */
  readonly continued: Promise<void>;
  /** Rejects when the connection fails before an answer. */
  readonly answered: Promise<Answer>;
  /** Bytes of the body that the kernel has taken. */
  writtenBytes = 0;
  private wasContinued = false;
  private readonly options: ExchangeOptions;
  private readonly answer = Promise.withResolvers<Answer>();
  private isAnswered = false;
  /**
   * The pending write. An answer, a failure and a cancel end it here, because reactions would pile up on a promise that
   * lives as long as the request.
   */
  private writer: PromiseWithResolvers<boolean> | undefined;

  constructor(options: ExchangeOptions) {
    this.options = options;
    const { request, socket, signal } = options;
    this.answered = this.answer.promise;
    // A rejection that nobody awaits is not an error.
    this.answered.catch(() => {});
    this.continued = new Promise((resolve) =>
      request.once('continue', () => {
        this.wasContinued = true;
        resolve();
      }),
    );
    request.once('response', (response) => this.hear(response));
    request.on('error', (error) => this.fail(error));
    for (const emitter of [request, socket]) emitter.once('close', () => this.fail(closedError()));
    // A server may take an hour to answer; keep-alive detects a lost host earlier.
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    signal.addEventListener('abort', this.onAbort);
    if (socket.destroyed) this.fail(closedError());
  }

  /** Whether the kernel has taken the whole body. */
  get isSent(): boolean {
    return this.writtenBytes === this.options.sizeBytes;
  }

  get hasAnswered(): boolean {
    return this.isAnswered;
  }

  /**
   * @returns whether the kernel took all of `bytes`; false when the server has answered
   * @throws DiskliftError when they are taken too slowly or the transfer is cancelled, and errors of the network
   */
  async write(bytes: Uint8Array): Promise<boolean> {
    // Read an answer that has arrived first: a write to a server that has closed would lose it.
    await nextTurn();
    throwIfAborted(this.options.signal);
    if (this.isAnswered) return false;
    const { request, socket, pace } = this.options;
    const writer = Promise.withResolvers<boolean>();
    this.writer = writer;
    const write = () => {
      request.write(bytes, (error) => {
        if (!error) {
          this.writtenBytes += bytes.length;
          return writer.resolve(true);
        }
        readWhatIsLeft(socket);
        // Without effect if an answer was left.
        this.fail(error);
      });
      return writer.promise;
    };
    try {
      return await pace.during(write, () => takenBytes(socket));
    } finally {
      this.writer = undefined;
    }
  }

  /** Ends the body. */
  end(): void {
    this.options.request.end();
  }

  /** Closes the connection in any state. */
  destroy(): void {
    this.options.signal.removeEventListener('abort', this.onAbort);
    this.options.request.destroy();
    this.options.socket.destroy();
  }

  private hear(response: http.IncomingMessage): void {
    this.isAnswered = true;
    const sent = () => ({ wasComplete: this.isSent, takenBytes: this.wasContinued || this.isSent ? this.writtenBytes : 0 });
    readAnswer(response, { clock: this.options.clock, mayQuote: this.options.mayQuote, sent }).then(
      this.answer.resolve,
      this.answer.reject,
    );
    this.writer?.resolve(false);
  }

  private fail(error: Error): void {
    if (this.isAnswered) return;
    this.answer.reject(error);
    this.writer?.reject(error);
  }

  private readonly onAbort = (): void => this.writer?.reject(cancelledError(this.options.signal));
}

/** Enough for an answer's head and some of its text. */
const MAX_REST_BYTES = 65_536;

/**
 * Passes on the bytes that a server sent before it reset the connection. Call this after a failed write, before the
 * socket is closed. On Linux those bytes stay readable in the kernel, but Node closes the socket without reading them.
 * Under TLS they cannot be read.
 */
function readWhatIsLeft(socket: Socket): void {
  const { _handle: handle } = socket as { _handle?: { fd?: number } | null };
  if ('encrypted' in socket || handle?.fd === undefined || handle.fd < 0) return;
  const rest = Buffer.alloc(MAX_REST_BYTES);
  try {
    const length = fs.readSync(handle.fd, rest);
    // A stream with an error accepts no data, but the parser still listens.
    if (length > 0) socket.emit('data', rest.subarray(0, length));
  } catch {
    // Nothing was left. The failure of the write is reported instead.
  }
}
