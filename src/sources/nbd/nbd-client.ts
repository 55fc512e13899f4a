/** Sends requests to an NBD server after the handshake: many at a time on one connection, answered in any order. */

import { setImmediate as nextTurn } from 'node:timers/promises';
import { abortable, cancelledError, throwIfAborted } from '../../common/abortable.ts';
import type { Clock } from '../../common/clock.ts';
import { DiskliftError } from '../../common/errors.ts';
import { createLimiter, type Limiter } from '../../common/limiter.ts';
import { readError, reasonOf } from '../opened-file.ts';
import type { Agreed } from './handshake.ts';
import { OutstandingRequests, type ReadRequest, type Statuses, type StatusRequest, type WantedParts } from './outstanding-requests.ts';
import { Command, REQUEST_MAGIC, REQUEST_SIZE_BYTES } from './protocol.ts';
import { ReplyParser } from './reply-parser.ts';
import type { Wire } from './wire.ts';

/** QEMU and nbdkit work on this many requests of one client at once. */
const REQUESTS_IN_FLIGHT = 16;

export interface NbdClientOptions {
  /** The name of the disk in messages. */
  name: string;
  clock: Clock;
  /** Limit of a server's silence while it owes an answer. */
  silenceMs: number;
  /** Limit of the whole answer to one request, even if its bytes keep coming. */
  answerMs: number;
}

export class NbdClient {
  private readonly wire: Wire;
  private readonly options: NbdClientOptions;
  private readonly outstanding = new OutstandingRequests();
  private readonly slots: Limiter = createLimiter(REQUESTS_IN_FLIGHT);
  private readonly closing = new AbortController();
  private failure: DiskliftError | undefined;
  private receivedMs = 0;
  private isWatched = false;

  constructor({ wire, agreement }: Agreed, options: NbdClientOptions) {
    this.wire = wire;
    this.options = options;
    const parser = new ReplyParser({ structured: agreement.structured, rangeOf: (cookie) => this.outstanding.rangeOf(cookie) });
    wire.listen({
      onBytes: (bytes) => {
        this.receivedMs = options.clock.monotonicMs();
        for (const event of parser.push(bytes)) this.outstanding.accept(event);
      },
      onFailure: (failure) => this.fail(failure),
    });
  }

  /**
   * Fills `target`.
   * @throws as {@link DiskSource.read}; after any other error than `Cancelled` nothing is written to it any more
   */
  async read(target: Uint8Array, offset: number, signal: AbortSignal): Promise<void> {
    await this.ask({ kind: 'read', offset, length: target.length, target }, signal);
  }

  /** @returns the extents from `offset` on, of each context; those of one context may end before those of another */
  blockStatus(request: Omit<StatusRequest, 'kind'>, signal: AbortSignal): Promise<Statuses> {
    return this.ask({ kind: 'status', ...request }, signal);
  }

  /** Disconnects from the server. Outstanding requests fail. */
  async close(): Promise<void> {
    this.closing.abort(new DiskliftError('Cancelled', 'closed'));
    this.fail(new DiskliftError('SourceReadError', 'the connection was closed'));
    await this.wire.close(encodeRequest(Command.disconnect, 0n, { offset: 0, length: 0 }), this.options.clock);
  }

  private ask(request: ReadRequest | StatusRequest, signal: AbortSignal): Promise<Statuses> {
    const answered = this.slots.run(() => {
      throwIfAborted(signal);
      return new Promise<Statuses>((resolve, reject) => {
        const failed = (offset: number, cause: DiskliftError) => {
          signal.removeEventListener('abort', onAbort);
          const { name } = this.options;
          reject(request.kind === 'read' ? readError(name, offset, cause) : blockStatusError(name, offset, cause, request.wanted));
        };
        const onAbort = () => {
          // The answer still comes, and its bytes are dropped.
          if (request.kind === 'read') request.target = undefined;
          reject(cancelledError(signal));
        };
        if (this.failure !== undefined) {
          failed(request.offset, this.failure);
          return;
        }
        signal.addEventListener('abort', onAbort, { once: true });
        const done = (statuses: Statuses) => {
          signal.removeEventListener('abort', onAbort);
          resolve(statuses);
        };
        this.send(request, { done, failed });
      });
    });
    // A request that still waits for a slot is cancelled at once, too.
    return abortable(answered, signal);
  }

  private send(request: ReadRequest | StatusRequest, settlement: Parameters<OutstandingRequests['add']>[1]): void {
    const nowMs = this.options.clock.monotonicMs();
    if (this.outstanding.count === 0) this.receivedMs = nowMs;
    const cookie = this.outstanding.add(request, settlement, nowMs);
    this.wire.write(encodeRequest(request.kind === 'read' ? Command.read : Command.blockStatus, cookie, request));
    void this.watch();
  }

  /** Watches all requests with one timer. */
  private async watch(): Promise<void> {
    if (this.isWatched) return;
    this.isWatched = true;
    const { clock, silenceMs, answerMs } = this.options;
    try {
      let leftMs = silenceMs;
      for (let oldestMs = this.outstanding.oldestMs; oldestMs !== undefined; oldestMs = this.outstanding.oldestMs) {
        const isSure = leftMs <= 0;
        const silentInMs = this.receivedMs + silenceMs - clock.monotonicMs();
        const lateInMs = oldestMs + answerMs - clock.monotonicMs();
        leftMs = Math.min(silentInMs, lateInMs);
        if (leftMs > 0) await clock.delay(leftMs, this.closing.signal);
        // This process may have been stopped itself; bytes that have arrived since are received now.
        else if (!isSure) await nextTurn();
        else {
          const what = silentInMs <= lateInMs ? `no answer within ${silenceMs / 1000} s` : `no whole answer within ${answerMs / 1000} s`;
          this.wire.break(new DiskliftError('SourceReadError', what));
        }
      }
    } catch {
      // The client was closed.
    } finally {
      this.isWatched = false;
    }
  }

  private fail(failure: DiskliftError): void {
    this.failure ??= failure;
    this.outstanding.failAll(this.failure);
  }
}

function encodeRequest(command: number, cookie: bigint, { offset, length }: { offset: number; length: number }): Buffer {
  const bytes = Buffer.alloc(REQUEST_SIZE_BYTES);
  bytes.writeUInt32BE(REQUEST_MAGIC, 0);
  // Two bytes of flags: none.
  bytes.writeUInt16BE(command, 6);
  bytes.writeBigUInt64BE(cookie, 8);
  bytes.writeBigUInt64BE(BigInt(offset), 16);
  bytes.writeUInt32BE(length, 24);
  return bytes;
}

/** An error of the query for the extents from `offset` on. The error concerns no byte of the disk. */
export function blockStatusError(name: string, offset: number, cause: unknown, wanted: WantedParts): DiskliftError {
  const message = `${name}: cannot ask the server which parts ${wanted} (block status) at offset ${offset}: ${reasonOf(cause)}`;
  return new DiskliftError('SourceReadError', message, cause);
}
