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
  /** Not begun, but for its headers. */
  request: http.ClientRequest;
  /** What `request` goes through. */
  socket: Socket;
  /** Whether the server's words may be shown. */
  mayQuote: boolean;
  sizeBytes: number;
  pace: PaceWatch;
  clock: Clock;
  signal: AbortSignal;
}

export class Exchange {
  /** The server has said 100. */
  readonly continued: Promise<void>;
  /** Fails where the connection does before there is an answer. */
  readonly answered: Promise<Answer>;
  /** Of the body, taken by the kernel. */
  writtenBytes = 0;
  private wasContinued = false;
  private readonly options: ExchangeOptions;
  private readonly answer = Promise.withResolvers<Answer>();
  private isAnswered = false;
  /** Who waits for a write. One place for all that can end the wait: a promise that lives as long as the request would collect them. */
  private writer: PromiseWithResolvers<boolean> | undefined;

  constructor(options: ExchangeOptions) {
    this.options = options;
    const { request, socket, signal } = options;
    this.answered = this.answer.promise;
    // Whoever waits for it hears of a failure; nobody has to.
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
   * @returns whether all of `bytes` have been taken; else there is an answer already
   * @throws DiskliftError when they are taken too slowly or the transfer is cancelled, and errors of the network
   */
  async write(bytes: Uint8Array): Promise<boolean> {
    // An answer that is there already must be heard first: a write to a server that has closed would lose it.
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
        // Does nothing where that was an answer.
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

  /** The body has been written. */
  end(): void {
    this.options.request.end();
  }

  /** Closes the connection, whatever it is about. */
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

/** An answer's head, and some of its text. */
const MAX_REST_BYTES = 65_536;

/**
 * For when a write has failed, and before the socket is closed for it. Where a server answers early and closes, its reset tells
 * the writer that the connection is gone; what came in front of the reset stays readable in the kernel (on Linux), but Node closes
 * without looking. So this looks, and passes on what is there. Under TLS there is no way to do that.
 */
function readWhatIsLeft(socket: Socket): void {
  const { _handle: handle } = socket as { _handle?: { fd?: number } | null };
  if ('encrypted' in socket || handle?.fd === undefined || handle.fd < 0) return;
  const rest = Buffer.alloc(MAX_REST_BYTES);
  try {
    const length = fs.readSync(handle.fd, rest);
    // A stream with an error takes nothing in any more, but the parser listens on.
    if (length > 0) socket.emit('data', rest.subarray(0, length));
  } catch {
    // There is nothing: the failure of the write says the rest.
  }
}
