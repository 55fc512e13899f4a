/** One connection through the fault proxy: two sockets, and the bytes between them. */

import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Direction, Fault } from './fault-proxy.ts';
import { resetSocket } from './reset-socket.ts';

export interface ProxyHooks {
  /** The next fault in this direction of the connection, and the number of bytes that may pass before it. */
  nextFault(direction: Direction): { fault: Fault; inBytes: number } | undefined;
  /** The fault happens to this connection, and to no other one afterwards. */
  claim(fault: Fault): void;
  strike(fault: Fault): void;
  count(direction: Direction, bytes: number): void;
}

/** Small enough that a slow connection moves at all times. */
const SLOW_PIECE_BYTES = 64 * 1024;

export class ProxiedConnection {
  readonly passed = { toServer: 0, toClient: 0 };
  private readonly client: Socket;
  private readonly server: Socket;
  private readonly hooks: ProxyHooks;
  private readonly over = Promise.withResolvers<void>();
  private stalled: Promise<void> | undefined;
  private bytesPerSecond: number | undefined;
  private isSwallowing = false;

  constructor(client: Socket, server: Socket, hooks: ProxyHooks) {
    this.client = client;
    this.server = server;
    this.hooks = hooks;
    for (const socket of [client, server]) socket.on('error', () => this.reset()).setNoDelay();
  }

  get isOpen(): boolean {
    return !this.client.readableEnded && !this.client.destroyed;
  }

  start(): void {
    this.pump('toServer');
    this.pump('toClient');
  }

  /** Applies the fault from now on. */
  suffer(fault: Fault): void {
    if (fault.kind === 'stall')
      this.stalled = Promise.race([this.over.promise, ...(fault.forMs === undefined ? [] : [sleep(fault.forMs)])]);
    else if (fault.kind === 'slow') this.bytesPerSecond = fault.bytesPerSecond;
    else if (fault.kind === 'tell') fault.act();
    else if (fault.kind === 'reset') this.reset();
    else if (fault.kind === 'end') {
      this.isSwallowing = true;
      this.client.end();
      this.server.end();
    }
  }

  destroy(): void {
    this.over.resolve();
    this.client.destroy();
    this.server.destroy();
  }

  private reset(): void {
    this.isSwallowing = true;
    this.over.resolve();
    for (const socket of [this.client, this.server]) resetSocket(socket);
  }

  private async pump(direction: Direction): Promise<void> {
    const [from, to] = direction === 'toServer' ? [this.client, this.server] : [this.server, this.client];
    try {
      for await (const chunk of from.iterator({ destroyOnReturn: false })) await this.pass(chunk as Buffer, direction, to);
      this.strikeAtEnd(direction);
      await this.stalled;
      to.end();
    } catch {
      this.reset();
    }
  }

  /** Applies a pending fault to the end of the connection if no byte precedes that end. */
  private strikeAtEnd(direction: Direction): void {
    const next = this.hooks.nextFault(direction);
    if (next === undefined || next.inBytes > 0 || next.fault.kind === 'corrupt') return;
    this.hooks.claim(next.fault);
    this.hooks.strike(next.fault);
  }

  private async pass(chunk: Buffer, direction: Direction, to: Socket): Promise<void> {
    for (let rest = chunk; rest.length > 0 && !this.isSwallowing; ) {
      await this.stalled;
      const next = this.hooks.nextFault(direction);
      const length = Math.min(rest.length, this.bytesPerSecond === undefined ? rest.length : SLOW_PIECE_BYTES);
      if (next?.fault.kind === 'corrupt' && next.inBytes < length) {
        this.hooks.claim(next.fault);
        rest[next.inBytes] = (rest[next.inBytes] as number) ^ 0x10;
        continue;
      }
      const strikes = next !== undefined && next.fault.kind !== 'corrupt' && next.inBytes <= length;
      const piece = rest.subarray(0, strikes ? next.inBytes : length);
      rest = rest.subarray(piece.length);
      if (strikes) this.hooks.claim(next.fault);
      this.passed[direction] += piece.length;
      this.hooks.count(direction, piece.length);
      await this.write(to, piece);
      if (strikes) this.hooks.strike(next.fault);
    }
  }

  /** Resolves when the kernel has the bytes. An RST would overtake bytes that are still in this process. */
  private async write(to: Socket, piece: Buffer): Promise<void> {
    if (piece.length === 0 || to.destroyed) return;
    if (this.bytesPerSecond !== undefined) await Promise.race([sleep((piece.length / this.bytesPerSecond) * 1000), this.over.promise]);
    await new Promise<void>((resolve) => to.write(piece, () => resolve()));
  }
}
