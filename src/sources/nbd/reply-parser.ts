/**
 * Parses the replies of a server: bytes in, events out. Pure. It checks the grammar; `outstanding-requests` checks that
 * replies fit their requests.
 */

import { MIB } from '../../common/bytes.ts';
import {
  CHUNK_DONE,
  CHUNK_IS_ERROR,
  CHUNK_MAGIC,
  Chunk,
  MAX_STRING_BYTES,
  readOffset,
  SIMPLE_REPLY_MAGIC,
  shownText,
  violation,
} from './protocol.ts';

/** `cookie` is the client's number for the request that is answered. */
export type ReplyEvent = { cookie: bigint } & (
  | { kind: 'data'; offset: number; bytes: Buffer }
  | { kind: 'hole'; offset: number; length: number }
  | { kind: 'status'; context: number; descriptors: Buffer }
  | { kind: 'error'; error: number; text: string; offset?: number }
  | { kind: 'done' }
);

export interface ReplyParserOptions {
  /** True where client and server have agreed on structured replies. */
  structured: boolean;
  /** The range of a read, because a simple reply does not state its length; undefined for an unknown cookie. */
  rangeOf(cookie: bigint): { offset: number; length: number } | undefined;
}

/** A million extents, the most that known servers send at once. */
const MAX_STATUS_BYTES = 4 + 8 * MIB;
const STATUS_HEAD_BYTES = 4;
const DESCRIPTOR_SIZE_BYTES = 8;

/** errno, the length of the text, the text, an offset; a server may add fields that are not known yet. */
const MAX_ERROR_BYTES = 2 * MAX_STRING_BYTES;
const ERROR_HEAD_BYTES = 6;

const MAGIC_SIZE_BYTES = 4;
const SIMPLE_HEAD_BYTES = 12;
const CHUNK_HEAD_BYTES = 16;
const OFFSET_SIZE_BYTES = 8;
const HOLE_SIZE_BYTES = 12;

interface ChunkHead {
  cookie: bigint;
  type: number;
  isDone: boolean;
  /** Length of the payload. */
  length: number;
}

export class ReplyParser {
  private readonly options: ReplyParserOptions;
  /** The field that is collected now, and the function that takes it when it is whole. */
  private field = Buffer.alloc(MAGIC_SIZE_BYTES);
  private filledBytes = 0;
  private take: (field: Buffer) => void = this.takeMagic;
  /** Data that is passed on as it arrives. */
  private data: { cookie: bigint; offset: number; leftBytes: number; isDone: boolean } | undefined;
  private events: ReplyEvent[] = [];

  constructor(options: ReplyParserOptions) {
    this.options = options;
  }

  /**
   * @returns the events that `bytes` complete; events of data hold a part of `bytes`, no copy
   * @throws DiskliftError when the server violates the protocol; then the parser must not be used again
   */
  push(bytes: Buffer): readonly ReplyEvent[] {
    this.events = [];
    for (let at = 0; at < bytes.length; ) at += this.data === undefined ? this.collect(bytes, at) : this.passOn(bytes, at);
    return this.events;
  }

  private collect(bytes: Buffer, at: number): number {
    const count = bytes.copy(this.field, this.filledBytes, at);
    this.filledBytes += count;
    if (this.filledBytes === this.field.length) this.take(this.field);
    return count;
  }

  private await(sizeBytes: number, take: (field: Buffer) => void): void {
    this.field = Buffer.alloc(sizeBytes);
    this.filledBytes = 0;
    this.take = take;
  }

  private passOn(bytes: Buffer, at: number): number {
    const { data } = this;
    if (data === undefined) return 0;
    const count = Math.min(data.leftBytes, bytes.length - at);
    this.events.push({ kind: 'data', cookie: data.cookie, offset: data.offset, bytes: bytes.subarray(at, at + count) });
    data.offset += count;
    data.leftBytes -= count;
    if (data.leftBytes === 0) {
      this.data = undefined;
      this.end(data);
    }
    return count;
  }

  /** Ends a reply or a chunk. */
  private end({ cookie, isDone }: { cookie: bigint; isDone: boolean }): void {
    if (isDone) this.events.push({ kind: 'done', cookie });
    this.await(MAGIC_SIZE_BYTES, this.takeMagic);
  }

  private takeMagic(field: Buffer): void {
    const magic = field.readUInt32BE(0);
    if (magic === SIMPLE_REPLY_MAGIC) this.await(SIMPLE_HEAD_BYTES, this.takeSimpleReply);
    else if (magic === CHUNK_MAGIC && this.options.structured) this.await(CHUNK_HEAD_BYTES, this.takeChunk);
    else throw violation(`a reply that begins with 0x${magic.toString(16).padStart(8, '0')}`);
  }

  private takeSimpleReply(field: Buffer): void {
    const error = field.readUInt32BE(0);
    const cookie = field.readBigUInt64BE(4);
    if (error !== 0) {
      this.events.push({ kind: 'error', cookie, error, text: '' });
      this.end({ cookie, isDone: true });
      return;
    }
    if (this.options.structured) throw violation('a simple reply where structured ones were agreed on');
    const range = this.options.rangeOf(cookie);
    if (range === undefined) throw violation('a reply to a request that was not made');
    this.data = { cookie, offset: range.offset, leftBytes: range.length, isDone: true };
  }

  private takeChunk(field: Buffer): void {
    const flags = field.readUInt16BE(0);
    if ((flags & ~CHUNK_DONE) !== 0) throw violation(`flags 0x${flags.toString(16)} of a chunk`);
    const head = { cookie: field.readBigUInt64BE(4), type: field.readUInt16BE(2), isDone: flags !== 0, length: field.readUInt32BE(12) };
    const { type, isDone, length } = head;
    requireLength(head);
    if (type === Chunk.none) {
      if (!isDone) throw violation('an empty chunk that is not the last');
      this.end(head);
    } else if (type === Chunk.offsetData) this.await(OFFSET_SIZE_BYTES, (payload) => this.takeData(head, payload));
    else if (type === Chunk.offsetHole) this.await(length, (payload) => this.takeHole(head, payload));
    else if (type === Chunk.blockStatus) this.await(length, (payload) => this.takeStatus(head, payload));
    else this.await(length, (payload) => this.takeError(head, payload));
  }

  private takeData({ cookie, isDone, length }: ChunkHead, payload: Buffer): void {
    this.data = { cookie, offset: readOffset(payload, 0), leftBytes: length - OFFSET_SIZE_BYTES, isDone };
  }

  private takeHole(head: ChunkHead, payload: Buffer): void {
    const length = payload.readUInt32BE(OFFSET_SIZE_BYTES);
    if (length === 0) throw violation('a hole of no length');
    this.events.push({ kind: 'hole', cookie: head.cookie, offset: readOffset(payload, 0), length });
    this.end(head);
  }

  private takeStatus(head: ChunkHead, payload: Buffer): void {
    const descriptors = payload.subarray(STATUS_HEAD_BYTES);
    this.events.push({ kind: 'status', cookie: head.cookie, context: payload.readUInt32BE(0), descriptors });
    this.end(head);
  }

  private takeError(head: ChunkHead, payload: Buffer): void {
    const error = payload.readUInt32BE(0);
    if (error === 0) throw violation('an error of number 0');
    const textEnd = ERROR_HEAD_BYTES + payload.readUInt16BE(4);
    const hasOffset = head.type === Chunk.errorOffset;
    if (payload.length < textEnd + (hasOffset ? OFFSET_SIZE_BYTES : 0)) throw violation('an error longer than its chunk');
    const text = shownText(payload.subarray(ERROR_HEAD_BYTES, textEnd));
    const where = hasOffset ? { offset: readOffset(payload, textEnd) } : {};
    this.events.push({ kind: 'error', cookie: head.cookie, error, text, ...where });
    this.end(head);
  }
}

/** Called before memory is allocated for the payload. */
function requireLength({ type, length }: ChunkHead): void {
  if (!isPossible(type, length)) throw violation(`a chunk of type ${type} in ${length} bytes`);
}

function isPossible(type: number, length: number): boolean {
  if ((type & CHUNK_IS_ERROR) !== 0) return length >= ERROR_HEAD_BYTES && length <= MAX_ERROR_BYTES;
  switch (type) {
    case Chunk.none:
      return length === 0;
    case Chunk.offsetData:
      return length > OFFSET_SIZE_BYTES;
    case Chunk.offsetHole:
      return length === HOLE_SIZE_BYTES;
    case Chunk.blockStatus: {
      const descriptorBytes = length - STATUS_HEAD_BYTES;
      return descriptorBytes > 0 && descriptorBytes % DESCRIPTOR_SIZE_BYTES === 0 && length <= MAX_STATUS_BYTES;
    }
    default:
      return false;
  }
}
