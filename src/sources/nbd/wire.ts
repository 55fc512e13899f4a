/** One connection to an NBD server. Received bytes go to the present listener, from one buffer that is used again. */

import net from 'node:net';
import { KIB } from '../../common/bytes.ts';
import type { Clock } from '../../common/clock.ts';
import { CONNECT_OPTIONS } from '../../common/connect-options.ts';
import { DiskliftError, errnoOf } from '../../common/errors.ts';
import type { NbdEndpoint } from './nbd-uri.ts';

/**
 * The default capacity of a Unix socket. Smaller buffers need more calls for large reads; larger ones are never filled.
 */
const RECEIVE_BUFFER_BYTES = 256 * KIB;

/** Limit of waiting for the server to close its end. */
const CLOSE_LIMIT_MS = 500;

export interface WireListener {
  /** `bytes` are valid during the call only. An error that it throws breaks the connection. */
  onBytes(bytes: Buffer): void;
  /** Called once, when no more bytes will come. */
  onFailure(failure: DiskliftError): void;
}

export class Wire {
  private readonly socket: net.Socket;
  private listener: WireListener | undefined;
  private failure: DiskliftError | undefined;

  constructor(endpoint: NbdEndpoint) {
    const where = 'socketPath' in endpoint ? { path: endpoint.socketPath } : endpoint;
    const onread = {
      buffer: Buffer.allocUnsafeSlow(RECEIVE_BUFFER_BYTES),
      callback: (count: number, buffer: Uint8Array) => this.receive(buffer as Buffer, count),
    };
    this.socket = net.connect({ ...where, onread, ...CONNECT_OPTIONS } as net.NetConnectOpts);
    this.socket.on('error', (error) => this.fail(connectionError(error)));
    const onEnd = () => this.fail(new DiskliftError('SourceReadError', 'the server has closed the connection'));
    this.socket.once('end', onEnd).once('close', onEnd);
  }

  /** `listener` receives all bytes from now on. */
  listen(listener: WireListener): void {
    this.listener = listener;
    if (this.failure !== undefined) listener.onFailure(this.failure);
  }

  write(bytes: Uint8Array): void {
    this.socket.write(bytes);
  }

  /** Ends the connection because of a failure. */
  break(failure: DiskliftError): void {
    this.fail(failure);
    this.socket.destroy();
  }

  /** Writes `farewell`, if the connection still stands, and closes. */
  async close(farewell: Uint8Array, clock: Clock): Promise<void> {
    const { socket } = this;
    if (socket.destroyed) return;
    const done = new AbortController();
    const closed = new Promise<void>((resolve) => socket.once('close', resolve));
    socket.write(farewell);
    socket.destroySoon();
    await Promise.race([closed, clock.delay(CLOSE_LIMIT_MS, done.signal).catch(() => {})]);
    done.abort(new DiskliftError('Cancelled', 'closed'));
    socket.destroy();
  }

  private receive(buffer: Buffer, count: number): boolean {
    if (this.failure !== undefined) return false;
    try {
      this.listener?.onBytes(buffer.subarray(0, count));
    } catch (error) {
      this.break(error instanceof DiskliftError ? error : new DiskliftError('SourceReadError', String(error), error));
    }
    return true;
  }

  private fail(failure: DiskliftError): void {
    if (this.failure !== undefined) return;
    this.failure = failure;
    this.listener?.onFailure(failure);
  }
}

function connectionError(error: Error): DiskliftError {
  const errno = errnoOf(error) ?? error.message;
  if (errno === 'ENOENT') return new DiskliftError('SourceNotFound', 'there is no such socket', error);
  if (errno === 'ENOTFOUND') return new DiskliftError('SourceNotFound', 'the name has no address', error);
  if (errno === 'EACCES' || errno === 'EPERM') return new DiskliftError('SourcePermissionDenied', 'permission denied', error);
  const reasons: Readonly<Record<string, string>> = {
    ECONNREFUSED: 'connection refused; is the server running?',
    ECONNRESET: 'the connection was reset',
    EPIPE: 'the server has closed the connection',
  };
  return new DiskliftError('SourceReadError', reasons[errno] ?? errno, error);
}
