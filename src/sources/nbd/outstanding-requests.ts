/** What a server has been asked for and has not answered in full, and whether its answers fit. Pure. */

import { DiskliftError } from '../../common/errors.ts';
import { CoveredRanges } from './covered-ranges.ts';
import { errorName, violation } from './protocol.ts';
import type { ReplyEvent } from './reply-parser.ts';

export interface ReadRequest {
  kind: 'read';
  offset: number;
  length: number;
  /** What the bytes are put into; undefined once nobody wants them any more. */
  target: Uint8Array | undefined;
}

export interface StatusRequest {
  kind: 'status';
  offset: number;
  length: number;
  /** The server's number for the metadata context. */
  context: number;
}

/** Called once with the answer; a read's answer is in its target. */
export interface Settlement {
  done(descriptors: Buffer | undefined): void;
  /** @param offset where on the disk; the request's own where the server does not say more */
  failed(offset: number, cause: DiskliftError): void;
}

interface Entry {
  request: ReadRequest | StatusRequest;
  settlement: Settlement;
  covered: CoveredRanges;
  descriptors?: Buffer;
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
    this.entries.set(this.lastCookie, { request, settlement, covered: new CoveredRanges(request.length), askedMs });
    return this.lastCookie;
  }

  /** The range of the read that a cookie stands for. */
  rangeOf(cookie: bigint): { offset: number; length: number } | undefined {
    const request = this.entries.get(cookie)?.request;
    return request?.kind === 'read' ? request : undefined;
  }

  /** @throws DiskliftError when the server answers what was not asked, or not all of it; then the request is outstanding still */
  accept(event: ReplyEvent): void {
    const entry = this.entries.get(event.cookie);
    if (entry === undefined) throw violation('a reply to a request that was not made');
    switch (event.kind) {
      case 'data':
        placeOf(entry, event.offset, event.bytes.length)?.set(event.bytes);
        return;
      case 'hole':
        placeOf(entry, event.offset, event.length)?.fill(0);
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

  private finish(cookie: bigint, { request, settlement, covered, descriptors, failure }: Entry): void {
    if (failure === undefined && request.kind === 'read') requireWhole(request, covered);
    if (failure === undefined && request.kind === 'status' && descriptors === undefined)
      throw violation(`a reply that does not tell what lies at offset ${request.offset}`);
    this.entries.delete(cookie);
    if (failure === undefined) settlement.done(descriptors);
    else settlement.failed(failure.offset, failure.cause);
  }
}

/** Where bytes that came for a read belong. Undefined where nobody wants them any more. */
function placeOf({ request, covered }: Entry, offset: number, length: number): Uint8Array | undefined {
  if (request.kind !== 'read') throw violation('data in place of a block status');
  const start = offset - request.offset;
  if (start < 0 || start + length > request.length)
    throw violation(`bytes ${offset} to ${offset + length} in reply to a read of ${request.offset} to ${request.offset + request.length}`);
  if (!covered.add(start, start + length)) throw violation(`bytes from offset ${offset} that came before, or in splinters`);
  return request.target?.subarray(start, start + length);
}

function takeStatus(entry: Entry, { context, descriptors }: ReplyEvent & { kind: 'status' }): void {
  if (entry.request.kind !== 'status') throw violation('a block status in place of data');
  if (context !== entry.request.context) throw violation('a block status of another metadata context');
  if (entry.descriptors !== undefined) throw violation('two block statuses in one reply');
  entry.descriptors = descriptors;
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
