/** The negotiation with an NBD server (fixed newstyle), without a connection. */

import { isPowerOfTwo } from '../../common/bytes.ts';
import { DiskliftError } from '../../common/errors.ts';
import {
  ALLOCATION_DEPTH,
  BASE_ALLOCATION,
  DEFAULT_BLOCK_SIZE_BYTES,
  DIRTY_BITMAP_PREFIX,
  EXPORT_HAS_FLAGS,
  FLAG_FIXED_NEWSTYLE,
  FLAG_NO_ZEROES,
  Info,
  isOptionError,
  MAX_BLOCK_SIZE_BYTES,
  MAX_REQUEST_BYTES,
  OPTION_ERROR,
  OPTION_MAGIC,
  OPTION_REPLY_MAGIC,
  Option,
  OptionError,
  OptionReply,
  SERVER_MAGIC,
  shownText,
  violation,
} from './protocol.ts';

/** The server's numbers of metadata contexts; absent where it does not support them. */
export interface MetadataContexts {
  /** base:allocation, which reports zeros. */
  allocation?: number;
  /** The bitmap that the client has named. */
  dirty?: number;
  /** qemu:allocation-depth, negotiated together with a bitmap. */
  depth?: number;
}

/** The terms that client and server have agreed on. */
export interface Agreement {
  sizeBytes: number;
  /** True where replies come in chunks that state their content. */
  structured: boolean;
  contexts: MetadataContexts;
  /** Offsets and lengths of requests are multiples of this, except at the disk's end. */
  blockSizeBytes: number;
  /** Limit of one read, a multiple of the block size. */
  maxReadBytes: number;
}

/** A request of the coroutine to its caller: send these bytes, or receive exactly this many. */
type Step = { send: Buffer } | { receiveBytes: number };

export type Steps<T> = Generator<Step, T, Buffer>;

/** A server sends these zeros behind an export unless NO_ZEROES was agreed on. */
const EXPORT_PADDING_BYTES = 124;

/** Answers are short: a name of 4096 bytes and a few numbers. */
const MAX_REPLY_BYTES = 65_536;

/**
 * The negotiation as a pure coroutine: it asks its caller to send and to receive bytes. It does without features that
 * the server lacks: structured replies, base:allocation, NBD_OPT_GO. It does not do without the bitmap.
 * @throws DiskliftError without the name of the disk: `SourceNotFound`, `SourcePermissionDenied`, `ImageTooLarge`,
 * `SourceReadError`
 */
export function* negotiate(exportName: string, bitmap?: string): Steps<Agreement> {
  const hasPadding = yield* exchangeFlags();
  const structured = yield* agree(Option.structuredReply, Buffer.alloc(0));
  const contexts = structured ? yield* askForContexts(exportName, bitmap) : {};
  const bitmaps = bitmap === undefined || contexts.dirty !== undefined ? [] : yield* listBitmaps(exportName);
  // Where the export itself is missing, its error comes first.
  const facts = (yield* go(exportName)) ?? (yield* takeExport(exportName, hasPadding));
  if (bitmap !== undefined && contexts.dirty === undefined) throw bitmapMissing(bitmap, bitmaps);
  return { structured, contexts, ...requireSound(facts) };
}

/** The names of the dirty bitmaps that the server reports with the export; none where it does not tell. */
function* listBitmaps(exportName: string): Steps<string[]> {
  const names: string[] = [];
  const data = Buffer.concat([encodeString(exportName), Buffer.from([0, 0, 0, 1]), encodeString(DIRTY_BITMAP_PREFIX)]);
  const isKnown = yield* agree(Option.listMetaContext, data, ({ data }) => {
    if (names.length < MAX_SHOWN_BITMAPS) names.push(shownText(data.subarray(4 + DIRTY_BITMAP_PREFIX.length)));
  });
  return isKnown ? names : [];
}

const MAX_SHOWN_BITMAPS = 5;

function bitmapMissing(bitmap: string, reported: readonly string[]): DiskliftError {
  const others = reported.length === 0 ? 'no bitmap' : `only ${reported.join(', ')}`;
  return new DiskliftError(
    'SourceNotFound',
    `the server does not report the dirty bitmap ${bitmap} with this export, and ${others}; export the disk with it (bitmaps of block-export-add, qemu-nbd -B)`,
  );
}

/** @returns whether the server pads its answer to NBD_OPT_EXPORT_NAME with zeros */
function* exchangeFlags(): Steps<boolean> {
  const magic = (yield { receiveBytes: 8 }).readBigUInt64BE(0);
  if (magic !== SERVER_MAGIC) throw new DiskliftError('SourceReadError', 'it is not an NBD server');
  const style = (yield { receiveBytes: 8 }).readBigUInt64BE(0);
  const flags = style === OPTION_MAGIC ? (yield { receiveBytes: 2 }).readUInt16BE(0) : 0;
  if ((flags & FLAG_FIXED_NEWSTYLE) === 0)
    throw new DiskliftError('SourceReadError', 'the server does not know the fixed newstyle handshake', undefined, { retryable: false });
  const clientFlags = flags & (FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES);
  const answer = Buffer.alloc(4);
  answer.writeUInt32BE(clientFlags);
  yield { send: answer };
  return (clientFlags & FLAG_NO_ZEROES) === 0;
}

function encodeOption(option: number, data: Buffer): Buffer {
  const head = Buffer.alloc(16);
  head.writeBigUInt64BE(OPTION_MAGIC, 0);
  head.writeUInt32BE(option, 8);
  head.writeUInt32BE(data.length, 12);
  return Buffer.concat([head, data]);
}

/** A text with its length in front. */
function encodeString(text: string): Buffer {
  const bytes = Buffer.from(text);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

function encodeNumbers(...numbers: number[]): Buffer {
  const bytes = Buffer.alloc(2 * numbers.length);
  for (const [index, number] of numbers.entries()) bytes.writeUInt16BE(number, 2 * index);
  return bytes;
}

interface Reply {
  type: number;
  data: Buffer;
}

function* receiveReply(option: number): Steps<Reply> {
  const head = yield { receiveBytes: 20 };
  if (head.readBigUInt64BE(0) !== OPTION_REPLY_MAGIC) throw violation('an answer to an option without its magic number');
  if (head.readUInt32BE(8) !== option) throw violation(`an answer to option ${head.readUInt32BE(8)} instead of ${option}`);
  const length = head.readUInt32BE(16);
  if (length > MAX_REPLY_BYTES) throw violation(`an answer of ${length} bytes to an option`);
  return { type: head.readUInt32BE(12), data: length === 0 ? Buffer.alloc(0) : yield { receiveBytes: length } };
}

/**
 * Sends an option that a server need not support.
 * @param onReply receives the replies in front of the consent
 * @returns whether the server consents
 */
function* agree(option: number, data: Buffer, onReply?: (reply: Reply) => void): Steps<boolean> {
  yield { send: encodeOption(option, data) };
  for (;;) {
    const reply = yield* receiveReply(option);
    if (reply.type === OptionReply.ack) return true;
    if (reply.type === OptionError.tlsRequired) yield* abortOption(refusalOf(reply));
    if (isOptionError(reply.type)) return false;
    if (onReply === undefined) throw violation(`reply ${reply.type} to option ${option}`);
    onReply(reply);
  }
}

function* askForContexts(exportName: string, bitmap: string | undefined): Steps<MetadataContexts> {
  const queries = new Map<string, keyof MetadataContexts>([[BASE_ALLOCATION, 'allocation']]);
  if (bitmap !== undefined) queries.set(`${DIRTY_BITMAP_PREFIX}${bitmap}`, 'dirty').set(ALLOCATION_DEPTH, 'depth');
  const count = Buffer.from([0, 0, 0, queries.size]);
  const data = Buffer.concat([encodeString(exportName), count, ...[...queries.keys()].map(encodeString)]);
  const contexts: MetadataContexts = {};
  const isKnown = yield* agree(Option.setMetaContext, data, ({ type, data }) => {
    const key = type === OptionReply.metaContext && data.length >= 4 ? queries.get(data.toString('utf8', 4)) : undefined;
    if (key === undefined) throw violation('a metadata context that was not asked for');
    const context = data.readUInt32BE(0);
    if (contexts[key] !== undefined) throw violation('one metadata context under two numbers');
    if (Object.values(contexts).includes(context)) throw violation('two metadata contexts under one number');
    contexts[key] = context;
  });
  return isKnown ? contexts : {};
}

interface ExportFacts {
  size: bigint;
  flags: number;
  blockSizes?: { minimum: number; maximum: number };
}

/** @returns undefined when the server does not know the option */
function* go(exportName: string): Steps<ExportFacts | undefined> {
  yield { send: encodeOption(Option.go, Buffer.concat([encodeString(exportName), encodeNumbers(1, Info.blockSize)])) };
  let facts: ExportFacts | undefined;
  let blockSizes: ExportFacts['blockSizes'];
  for (;;) {
    const reply = yield* receiveReply(Option.go);
    if (reply.type === OptionReply.ack) {
      if (facts === undefined) throw violation('an export without a size');
      return blockSizes === undefined ? facts : { ...facts, blockSizes };
    }
    if (reply.type === OptionError.unsupported) return undefined;
    if (isOptionError(reply.type)) yield* abortOption(refusalOf(reply));
    const { data } = reply;
    if (reply.type !== OptionReply.info || data.length < 2) throw violation(`reply ${reply.type} to option ${Option.go}`);
    const kind = data.readUInt16BE(0);
    const lengths: Readonly<Record<number, number>> = { [Info.export]: 12, [Info.blockSize]: 14 };
    if (data.length !== (lengths[kind] ?? data.length)) throw violation(`information ${kind} in ${data.length} bytes`);
    if (kind === Info.export) facts = { size: data.readBigUInt64BE(2), flags: data.readUInt16BE(10) };
    if (kind === Info.blockSize) blockSizes = { minimum: data.readUInt32BE(2), maximum: data.readUInt32BE(10) };
  }
}

/** For servers without NBD_OPT_GO. Such a server closes the connection when it lacks the export. */
function* takeExport(exportName: string, hasPadding: boolean): Steps<ExportFacts> {
  yield { send: encodeOption(Option.exportName, Buffer.from(exportName)) };
  const data = yield { receiveBytes: 10 };
  const facts = { size: data.readBigUInt64BE(0), flags: data.readUInt16BE(8) };
  if (hasPadding) yield { receiveBytes: EXPORT_PADDING_BYTES };
  return facts;
}

/** Says goodbye to the server before the failure, because the server has done nothing wrong. */
function* abortOption(error: DiskliftError): Steps<never> {
  yield { send: encodeOption(Option.abort, Buffer.alloc(0)) };
  throw error;
}

function refusalOf({ type, data }: Reply): DiskliftError {
  const text = data.length === 0 ? '' : ` (${shownText(data)})`;
  if (type === OptionError.unknown) return new DiskliftError('SourceNotFound', `the server has no such export${text}`);
  if (type === OptionError.tlsRequired)
    return new DiskliftError('SourcePermissionDenied', `the server wants TLS, which is not supported for NBD${text}`);
  if (type === OptionError.policy) return new DiskliftError('SourcePermissionDenied', `the server denies it${text}`);
  return new DiskliftError('SourceReadError', `the server refuses with error ${type - OPTION_ERROR}${text}`);
}

function requireSound({ size, flags, blockSizes }: ExportFacts): Pick<Agreement, 'sizeBytes' | 'blockSizeBytes' | 'maxReadBytes'> {
  if ((flags & EXPORT_HAS_FLAGS) === 0) throw violation('an export without flags');
  if (size > BigInt(Number.MAX_SAFE_INTEGER)) throw new DiskliftError('ImageTooLarge', `${size} bytes are more than disklift can address`);
  const sizeBytes = Number(size);
  if (blockSizes === undefined) return { sizeBytes, blockSizeBytes: DEFAULT_BLOCK_SIZE_BYTES, maxReadBytes: MAX_REQUEST_BYTES };
  const { minimum, maximum } = blockSizes;
  if (!isPowerOfTwo(minimum) || minimum > MAX_BLOCK_SIZE_BYTES || maximum < minimum)
    throw violation(`blocks of ${minimum} to ${maximum} bytes`);
  if (sizeBytes % minimum !== 0) throw violation(`a size of ${size} bytes, which is no multiple of its blocks of ${minimum} bytes`);
  const largest = Math.min(maximum, MAX_REQUEST_BYTES);
  return { sizeBytes, blockSizeBytes: minimum, maxReadBytes: largest - (largest % minimum) };
}
