/** The bytes of one connection to an NBD server: what is heard goes to whoever listens at the time, from one buffer that is used again. */

import net from 'node:net';
import { KIB } from '../../common/bytes.ts';
import type { Clock } from '../../common/clock.ts';
import { CONNECT_OPTIONS } from '../../common/connect-options.ts';
import { DiskliftError, errnoOf } from '../../common/errors.ts';
import type { NbdEndpoint } from './nbd-uri.ts';

/** What a Unix socket holds by default; with less, large reads take more calls, more is never filled. */
const RECEIVE_BUFFER_BYTES = 256 * KIB;

/** A server that does not take our end is left behind. */
const CLOSE_LIMIT_MS = 500;

export interface WireListener {
  /** `bytes` are valid during the call only. What it throws ends the wire. */
  onBytes(bytes: Buffer): void;
  /** Called once, when there will be no more bytes. */
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
      callback: (count: number, buffer: Uint8Array) => this.hear(buffer as Buffer, count),
    };
    this.socket = net.connect({ ...where, onread, ...CONNECT_OPTIONS } as net.NetConnectOpts);
    this.socket.on('error', (error) => this.fail(connectionError(error)));
    const onEnd = () => this.fail(new DiskliftError('SourceReadError', 'the server has closed the connection'));
    this.socket.once('end', onEnd).once('close', onEnd);
  }

  /** Everything that is heard from now on is for `listener`. */
  listen(listener: WireListener): void {
    this.listener = listener;
    if (this.failure !== undefined) listener.onFailure(this.failure);
  }

  write(bytes: Uint8Array): void {
    this.socket.write(bytes);
  }

  /** Ends the wire because of what the other side did. */
  break(failure: DiskliftError): void {
    this.fail(failure);
    this.socket.destroy();
  }

  /** Writes `lastWords`, if the server can still hear them, and closes. */
  async close(lastWords: Uint8Array, clock: Clock): Promise<void> {
    const { socket } = this;
    if (socket.destroyed) return;
    const done = new AbortController();
    const closed = new Promise<void>((resolve) => socket.once('close', resolve));
    socket.write(lastWords);
    socket.destroySoon();
    await Promise.race([closed, clock.delay(CLOSE_LIMIT_MS, done.signal).catch(() => {})]);
    done.abort(new DiskliftError('Cancelled', 'closed'));
    socket.destroy();
  }

  private hear(buffer: Buffer, count: number): boolean {
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
