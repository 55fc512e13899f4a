/** One connection to a peer: the lines that it sent, and writes that wait until the kernel takes them. */

import net from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { abortable } from '../../common/abortable.ts';
import type { Clock } from '../../common/clock.ts';
import { DiskliftError } from '../../common/errors.ts';
import type { NetworkAccess } from '../../network/destination-policy.ts';
import type { TlsMaterial } from '../../network/guarded-connection.ts';
import { breakConnection, connectGuarded, startTls } from '../../network/guarded-connection.ts';
import { closedError, networkError } from '../../network/network-error.ts';
import type { PaceWatch } from '../pace-watch.ts';
import { takenBytes } from '../pace-watch.ts';
import { withLimit } from '../with-limit.ts';
import { MAX_LINE_BYTES, type ShownPeer } from './messages.ts';

const NEWLINE = 0x0a;

/** Most lines that a receiver sends in a whole transfer. */
const MAX_LINES = 2;

export interface PeerOptions {
  host: string;
  port: number;
  /** Plain TCP where it is left out. */
  tls?: TlsMaterial | undefined;
  access: NetworkAccess;
  clock: Clock;
  signal: AbortSignal;
  /** Limit of opening a connection, TLS included. */
  connectMs: number;
  /** Whether to read lines from the peer; otherwise its bytes are ignored. */
  speaks: boolean;
}

/** @throws DiskliftError `DestinationUnreachable`, `DestinationNotAllowed` before anything is written, `Cancelled` */
export async function connectPeer(options: PeerOptions): Promise<Peer> {
  const { connectMs: limitMs, clock, signal } = options;
  const where = locationOf(options);
  const connecting = new AbortController();
  try {
    const opening = openSockets(options, connecting.signal);
    return new Peer(where, await withLimit(opening, { limitMs, message: `${where}: no connection`, clock, signal }), options);
  } catch (error) {
    throw networkError(where, error);
  } finally {
    connecting.abort(new DiskliftError('Cancelled', 'no longer wanted'));
  }
}

/** `raw` is what lies beneath `socket`, and the same without TLS. */
interface Sockets {
  raw: net.Socket;
  socket: net.Socket;
}

async function openSockets({ host, port, access, tls: material }: PeerOptions, signal: AbortSignal): Promise<Sockets> {
  const raw = await connectGuarded({ host, port, access, signal });
  // The peer may end its side while ours stays open.
  raw.allowHalfOpen = true;
  if (material === undefined) return { raw, socket: raw };
  try {
    return { raw, socket: await startTls(raw, { host, material, signal, protocols: [] }) };
  } catch (error) {
    raw.destroy();
    throw error;
  }
}

/** The peer as it may be shown. */
export function locationOf({ host, port }: { host: string; port: number }): string {
  return `tcp://${net.isIPv6(host) ? `[${host}]` : host}:${port}`;
}

export class Peer implements ShownPeer {
  readonly where: string;
  readonly mayQuote: boolean;
  private readonly raw: net.Socket;
  private readonly socket: net.Socket;
  private readonly options: PeerOptions;
  private readonly lines: string[] = [];
  private unfinishedLine = Buffer.alloc(0);
  private hasEnded = false;
  private failure: DiskliftError | undefined;
  private changed = Promise.withResolvers<void>();

  constructor(where: string, { raw, socket }: Sockets, options: PeerOptions) {
    this.where = where;
    this.mayQuote = options.access.mayQuote(socket.remoteAddress ?? '', options.host);
    this.raw = raw;
    this.socket = socket;
    this.options = options;
    socket.on('data', (bytes: Buffer) => this.hear(bytes));
    socket.once('end', () => {
      this.hasEnded = true;
      this.change();
    });
    socket.on('error', (error) => this.fail(networkError(where, error)));
    socket.once('close', () => this.fail(networkError(where, closedError())));
    if (socket.destroyed) this.fail(networkError(where, socket.errored ?? closedError()));
  }

  /** Whether the peer has sent a line that is still unread, or has closed its side. */
  hasSpoken(): boolean {
    return this.lines.length > 0 || this.hasEnded;
  }

  /**
   * Resolves when the kernel has taken all of `bytes`; with false when the peer sent a line or closed instead.
   * @throws DiskliftError `DestinationUnreachable`, `Cancelled`
   */
  async sendBytes(bytes: Uint8Array, pace: PaceWatch): Promise<boolean> {
    const send = async () => this.when(await this.write(bytes));
    return pace.during(
      () => abortable(send(), this.options.signal),
      () => takenBytes(this.raw),
    );
  }

  /** The same for a line of the protocol. */
  async sendLine(line: string, limitMs: number): Promise<boolean> {
    return this.until(await this.write(line), limitMs, 'takes no more bytes');
  }

  /**
   * @returns true when the kernel has taken all of `bytes`; false when the peer sent a line or closed instead;
   * undefined until then
   */
  private async write(bytes: Uint8Array | string): Promise<() => boolean | undefined> {
    // Read what has arrived first: a write to a peer that has closed would lose it.
    await nextTurn();
    if (this.hasSpoken()) return () => false;
    let isWritten = false;
    this.socket.write(bytes, (error) => {
      isWritten = !error;
      this.change();
    });
    return () => (isWritten ? true : this.hasSpoken() ? false : undefined);
  }

  /**
   * The next line, without its newline.
   * @throws DiskliftError `DestinationUnreachable`, `DestinationRejected` when it is too long
   */
  async readLine(limitMs: number, awaited: string): Promise<string> {
    return this.until(
      () => {
        const line = this.lines.shift();
        if (line === undefined && this.hasEnded) throw this.unreachable(`closed the connection instead of ${awaited}`);
        return line;
      },
      limitMs,
      `no ${awaited}`,
    );
  }

  /** Ends our side in order: close_notify over TLS, then a FIN. */
  end(): void {
    this.socket.end();
  }

  /** Resolves when the peer has ended its side in order. @throws DiskliftError `DestinationUnreachable` */
  async ended(limitMs: number): Promise<void> {
    await this.until(() => this.hasEnded || undefined, limitMs, 'does not close the connection');
  }

  /** Closes the connection in order, and waits for nothing. */
  close(): void {
    this.socket.destroySoon();
  }

  /** Resets the connection, so that the peer does not take this for an orderly end. */
  reset(): void {
    breakConnection(this.socket, this.raw);
  }

  unreachable(what: string): DiskliftError {
    return new DiskliftError('DestinationUnreachable', `${this.where}: ${what}`);
  }

  private hear(bytes: Buffer): void {
    if (!this.options.speaks || this.failure !== undefined) return;
    let rest = this.unfinishedLine.length === 0 ? bytes : Buffer.concat([this.unfinishedLine, bytes]);
    for (let end = rest.indexOf(NEWLINE); end >= 0 && end < MAX_LINE_BYTES; end = rest.indexOf(NEWLINE)) {
      this.lines.push(rest.toString('utf8', 0, end));
      rest = rest.subarray(end + 1);
      if (this.lines.length > MAX_LINES) break;
    }
    if (this.lines.length > MAX_LINES || rest.length >= MAX_LINE_BYTES) {
      this.lines.length = 0;
      this.fail(new DiskliftError('DestinationRejected', `${this.where}: the receiver sends more than the protocol allows`));
    }
    this.unfinishedLine = Buffer.from(rest);
    this.change();
  }

  private fail(failure: DiskliftError): void {
    this.failure ??= failure;
    this.change();
  }

  private change(): void {
    this.changed.resolve();
    this.changed = Promise.withResolvers<void>();
  }

  private until<T>(ready: () => T | undefined, limitMs: number, what: string): Promise<T> {
    const { clock, signal } = this.options;
    return withLimit(this.when(ready), { limitMs, message: `${this.where}: ${what}`, clock, signal });
  }

  private async when<T>(ready: () => T | undefined): Promise<T> {
    for (;;) {
      const value = ready();
      if (value !== undefined) return value;
      if (this.failure !== undefined) throw this.failure;
      await this.changed.promise;
    }
  }
}
