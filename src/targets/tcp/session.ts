/** The receiver's side of connections: the server, and one sender's session with its lines and bytes. */

import { once } from 'node:events';
import net, { type Socket } from 'node:net';
import { nodeTls } from '../../common/builtin.ts';
import { MIB } from '../../common/bytes.ts';
import type { Clock } from '../../common/clock.ts';
import { DiskliftError, errnoOf } from '../../common/errors.ts';
import { breakConnection } from '../../network/guarded-connection.ts';
import { closedError, networkError } from '../../network/network-error.ts';
import { withLimit } from '../with-limit.ts';
import { errorLine, MAX_LINE_BYTES } from './messages.ts';

const NEWLINE = 0x0a;

/**
 * Time in which a refused sender may still send. A connection that is closed at once would lose the reason of the
 * refusal.
 */
const LINGER_MS = 2000;

export interface SessionOptions {
  socket: Socket;
  /** The connection beneath `socket` where `socket` is TLS. */
  raw: Socket;
  clock: Clock;
}

export class Session {
  /** The sender as it may be shown. */
  readonly where: string;
  private readonly socket: Socket;
  private readonly raw: Socket;
  private readonly clock: Clock;
  private changed = Promise.withResolvers<void>();
  /** Aborted with the reason why this side broke the connection. */
  private readonly broken = new AbortController();

  constructor({ socket, raw, clock }: SessionOptions) {
    this.where = `${socket.remoteAddress ?? 'somebody'} port ${socket.remotePort ?? 0}`;
    this.socket = socket;
    this.raw = raw;
    this.clock = clock;
    const change = () => {
      this.changed.resolve();
      this.changed = Promise.withResolvers<void>();
    };
    for (const event of ['readable', 'end', 'error', 'close']) socket.on(event, change);
    // `read` reports the failure.
    raw.on('error', () => {});
  }

  /**
   * @returns undefined at the sender's orderly end
   * @throws DiskliftError `DestinationUnreachable`, or what the session was broken with
   */
  async chunk(limitMs: number): Promise<Buffer | undefined> {
    try {
      const { clock } = this;
      return await withLimit(this.read(), { limitMs, message: 'sends nothing', clock, signal: this.broken.signal });
    } catch (error) {
      throw networkError('the connection', error);
    }
  }

  /**
   * Reads a line. Nothing may follow it, because the sender has to wait for an answer.
   * @returns the line without its newline; undefined when the sender ends in order before
   * @throws DiskliftError `DestinationRejected` when the line is too long, or more bytes follow
   */
  async line(limitMs: number): Promise<string | undefined> {
    const endMs = this.clock.monotonicMs() + limitMs;
    let text = Buffer.alloc(0);
    for (;;) {
      const bytes = await this.chunk(Math.max(0, endMs - this.clock.monotonicMs()));
      if (bytes === undefined) return undefined;
      text = Buffer.concat([text, bytes]);
      const end = text.indexOf(NEWLINE);
      if (end >= 0 && end < MAX_LINE_BYTES) {
        if (end < text.length - 1) throw new DiskliftError('DestinationRejected', 'bytes came before they were asked for');
        return text.toString('utf8', 0, end);
      }
      if (text.length >= MAX_LINE_BYTES) throw new DiskliftError('DestinationRejected', `a line is longer than ${MAX_LINE_BYTES} bytes`);
    }
  }

  say(line: string): void {
    this.socket.write(line);
  }

  /** Ends in order. */
  close(): void {
    this.socket.destroySoon();
  }

  /** Sends the reason to the sender, and then closes. Resolves when the sender has had time to read it. */
  async refuse(error: DiskliftError): Promise<void> {
    if (this.socket.destroyed || this.broken.signal.aborted) return this.break(error);
    this.socket.end(errorLine(error));
    const stop = new AbortController();
    const drain = async () => {
      while ((await this.read()) !== undefined);
    };
    const drained = drain().catch(() => {});
    await Promise.race([drained, this.clock.delay(LINGER_MS, stop.signal)]);
    stop.abort(error);
    this.break(error);
  }

  /**
   * Resets the connection, so that the sender cannot take it for an orderly end. A connection after its orderly end is
   * closed.
   */
  break(error: DiskliftError): void {
    this.broken.abort(error);
    breakConnection(this.socket, this.raw);
  }

  /**
   * @returns the bytes that have arrived; undefined at the orderly end. The other direction stays open for an answer.
   */
  private async read(): Promise<Buffer | undefined> {
    const { socket } = this;
    for (;;) {
      const bytes = socket.read() as Buffer | null;
      if (bytes !== null) return bytes;
      if (socket.errored !== null) throw socket.errored;
      if (socket.readableEnded) return undefined;
      if (socket.destroyed) throw closedError();
      await this.changed.promise;
    }
  }
}

export interface ListenAddress {
  /** A name or an address, IPv6 without brackets; all addresses of the machine where it is left out. */
  host?: string | undefined;
  /** 0: any free port. */
  port: number;
}

export interface ServerTls {
  /** PEM. */
  certificate: string;
  /** PEM. */
  key: string;
  /** PEM: authorities whose certificates senders must have. */
  clientCa?: string | undefined;
}

export interface ListenOptions {
  address: ListenAddress;
  tls?: ServerTls | undefined;
  /** Receives every connection. `raw` is the connection beneath `socket`; without TLS both are the same. */
  onConnection(socket: net.Socket, raw: net.Socket): void;
}

/** Also counts senders that have not sent their first line. */
const MAX_CONNECTIONS = 32;
const HANDSHAKE_MS = 10_000;

/** Long enough that a write costs little per byte. */
const BUFFERED_BYTES = MIB;

/** @throws DiskliftError `InvalidRequest` when the address or the certificate cannot be used */
export async function listen({ address, tls: material, onConnection }: ListenOptions): Promise<net.Server> {
  const options = { allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: 30_000, highWaterMark: BUFFERED_BYTES };
  try {
    const server = material === undefined ? net.createServer(options) : createTlsServer(options, material, onConnection);
    if (material === undefined) server.on('connection', (socket) => onConnection(socket, socket));
    server.maxConnections = MAX_CONNECTIONS;
    server.listen(address);
    await once(server, 'listening');
    // accept(2) fails when the process or the machine has no descriptors or memory left. The sender connects again.
    server.on('error', () => {});
    return server;
  } catch (error) {
    const { host = '', port } = address;
    throw new DiskliftError('InvalidRequest', `cannot listen on ${host}:${port}: ${errnoOf(error) ?? (error as Error).message}`, error);
  }
}

function createTlsServer(
  options: net.ServerOpts,
  { certificate: cert, key, clientCa }: ServerTls,
  onConnection: ListenOptions['onConnection'],
): net.Server {
  const beneath = new Map<string, net.Socket>();
  const clientTls =
    clientCa === undefined ? {} : { ca: clientCa, allowPartialTrustChain: true, requestCert: true, rejectUnauthorized: true };
  const server = nodeTls().createServer({ ...options, cert, key, ...clientTls, handshakeTimeout: HANDSHAKE_MS });
  server.on('connection', (raw) => {
    const peer = nameOf(raw);
    beneath.set(peer, raw);
    // A connection without a TLS handshake must not keep the process alive.
    raw.unref();
    raw.once('close', () => beneath.delete(peer));
  });
  server.on('secureConnection', (socket) => {
    const raw = beneath.get(nameOf(socket));
    if (raw === undefined) return void socket.destroy();
    raw.ref();
    onConnection(socket, raw);
  });
  return server;
}

function nameOf({ remoteAddress, remotePort }: net.Socket): string {
  return `${remoteAddress} ${remotePort}`;
}
