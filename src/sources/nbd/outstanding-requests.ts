/** Requests that a server has not yet answered in full; checks that its answers fit. Pure. */

import { countNotAbove } from '../../common/columns.ts';
import { DiskliftError } from '../../common/errors.ts';
import { errorName, violation } from './protocol.ts';
import type { ReplyEvent } from './reply-parser.ts';

export interface ReadRequest {
  kind: 'read';
  offset: number;
  length: number;
  /** Receives the bytes; undefined after a cancel. */
  target: Uint8Array | undefined;
}

export interface StatusRequest {
  kind: 'status';
  offset: number;
  length: number;
  /** The server's numbers of all metadata contexts that were negotiated. An answer must hold each of them once. */
  contexts: readonly number[];
  wanted: WantedParts;
}

/** The purpose of a block status, in messages. */
export type WantedParts = 'are zeros' | 'have changed';

/** The descriptors of each metadata context, by its number: pairs of u32, length and flags. */
export type Statuses = ReadonlyMap<number, Buffer>;

/** Called once with the answer; a read's answer is in its target. */
export interface Settlement {
  done(statuses: Statuses): void;
  /** @param offset on the disk; the request's own where the server states none */
  failed(offset: number, cause: DiskliftError): void;
}

interface Entry {
  request: ReadRequest | StatusRequest;
  settlement: Settlement;
  covered: CoveredRanges;
  statuses: Map<number, Buffer>;
  failure?: { offset: number; cause: DiskliftError };
  askedMs: number;
}

export class OutstandingRequests {
  private readonly entries = new Map<bigint, Entry>();
  private lastCookie = 0n;

  get count(): number {
    return this.entries.size;
  }

  /** When the oldest outstanding request was sent; undefined when none is outstanding. */
  get oldestMs(): number | undefined {
    return this.entries.values().next().value?.askedMs;
  }

  /** @param askedMs when the request is sent @returns the cookie by which the server's answer names the request */
  add(request: ReadRequest | StatusRequest, settlement: Settlement, askedMs: number): bigint {
    this.lastCookie += 1n;
    this.entries.set(this.lastCookie, { request, settlement, covered: new CoveredRanges(request.length), statuses: new Map(), askedMs });
    return this.lastCookie;
  }

  /** The range of the read that a cookie stands for. */
  rangeOf(cookie: bigint): { offset: number; length: number } | undefined {
    const request = this.entries.get(cookie)?.request;
    return request?.kind === 'read' ? request : undefined;
  }

  /** @throws DiskliftError for an answer without a request or an incomplete one; the request then stays outstanding */
  accept(event: ReplyEvent): void {
    const entry = this.entries.get(event.cookie);
    if (entry === undefined) throw violation('a reply to a request that was not made');
    switch (event.kind) {
      case 'data':
        targetOf(entry, event.offset, event.bytes.length)?.set(event.bytes);
        return;
      case 'hole':
        targetOf(entry, event.offset, event.length)?.fill(0);
        return;
      case 'status':
        takeStatus(entry, event);
        return;
      case 'error':
        takeError(entry, event);
        return;
      case 'done':
        this.finish(event.cookie, entry);
    }
  }

  /** Ends all requests with one cause. */
  failAll(cause: DiskliftError): void {
    const entries = [...this.entries.values()];
    this.entries.clear();
    for (const { request, settlement } of entries) settlement.failed(request.offset, cause);
  }

  private finish(cookie: bigint, { request, settlement, covered, statuses, failure }: Entry): void {
    if (failure === undefined && request.kind === 'read') requireWhole(request, covered);
    if (failure === undefined && request.kind === 'status' && request.contexts.some((context) => !statuses.has(context)))
      throw violation(`a reply without the block status at offset ${request.offset}`);
    this.entries.delete(cookie);
    if (failure === undefined) settlement.done(statuses);
    else settlement.failed(failure.offset, failure.cause);
  }
}

/** @returns the part of the read's buffer for the received bytes; undefined after a cancel */
function targetOf({ request, covered }: Entry, offset: number, length: number): Uint8Array | undefined {
  if (request.kind !== 'read') throw violation('data in place of a block status');
  const start = offset - request.offset;
  if (start < 0 || start + length > request.length)
    throw violation(`bytes ${offset} to ${offset + length} in reply to a read of ${request.offset} to ${request.offset + request.length}`);
  if (!covered.add(start, start + length)) throw violation(`bytes from offset ${offset} that came before, or in too many pieces`);
  return request.target?.subarray(start, start + length);
}

function takeStatus(entry: Entry, { context, descriptors }: ReplyEvent & { kind: 'status' }): void {
  if (entry.request.kind !== 'status') throw violation('a block status in place of data');
  if (!entry.request.contexts.includes(context)) throw violation('a block status of another metadata context');
  if (entry.statuses.has(context)) throw violation('two block statuses of one metadata context in one reply');
  entry.statuses.set(context, descriptors);
}

function takeError(entry: Entry, { error, text, offset = entry.request.offset }: ReplyEvent & { kind: 'error' }): void {
  const { request } = entry;
  if (offset < request.offset || offset >= request.offset + request.length)
    throw violation(`an error at offset ${offset} in reply to a request of ${request.offset} to ${request.offset + request.length}`);
  const cause = new DiskliftError('SourceReadError', text === '' ? errorName(error) : `${errorName(error)} (${text})`);
  entry.failure ??= { offset, cause };
}

function requireWhole({ offset }: ReadRequest, covered: CoveredRanges): void {
  const missing = covered.firstMissing();
  if (missing !== undefined) throw violation(`a reply that lacks the bytes from offset ${offset + missing} on`);
}

/** Servers split answers at sectors, except for the first and the last piece. */
const MIN_PIECE_BYTES = 512;

/** The ranges of a read that have arrived. */
export class CoveredRanges {
  /** Start and end in turn, ascending; ranges that touch are one. */
  private readonly edges: number[] = [];
  private readonly lengthBytes: number;
  private readonly maxEdgeCount: number;

  constructor(lengthBytes: number) {
    this.lengthBytes = lengthBytes;
    this.maxEdgeCount = 2 * (2 + lengthBytes / MIN_PIECE_BYTES);
  }

  /**
   * @returns false when a byte from `start` to `end` had arrived already, or when the ranges are more than any server
   * has cause to make
   */
  add(start: number, end: number): boolean {
    const { edges } = this;
    // The edges that lie at or before `start`: an even number of them, or one that begins a range around it.
    let before = edges.length;
    if (start < (edges.at(-1) ?? 0)) before = countNotAbove(edges, start);
    if (before % 2 === 1 || end > (edges[before] ?? Number.POSITIVE_INFINITY)) return false;
    const touchesPrevious = before > 0 && edges[before - 1] === start;
    const touchesNext = edges[before] === end;
    if (touchesPrevious && touchesNext) edges.splice(before - 1, 2);
    else if (touchesPrevious) edges[before - 1] = end;
    else if (touchesNext) edges[before] = start;
    else edges.splice(before, 0, start, end);
    return edges.length <= this.maxEdgeCount;
  }

  /** @returns the first missing byte; undefined when none is missing */
  firstMissing(): number | undefined {
    const [start = 0, end = 0] = this.edges;
    if (start > 0) return 0;
    return end < this.lengthBytes ? end : undefined;
  }
}
