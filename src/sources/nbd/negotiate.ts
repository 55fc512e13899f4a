/**
 * The handshake with an NBD server, fixed newstyle, as a pure coroutine: it asks for bytes and gives bytes, and whoever has
 * the connection moves them. Of what a server lacks it does without: structured replies, base:allocation, NBD_OPT_GO.
 */

import { isPowerOfTwo } from '../../common/bytes.ts';
import { DiskliftError } from '../../common/errors.ts';
import {
  BASE_ALLOCATION,
  DEFAULT_BLOCK_SIZE_BYTES,
  EXPORT_HAS_FLAGS,
  FLAG_FIXED_NEWSTYLE,
  FLAG_NO_ZEROES,
  Info,
  isOptionError,
  LARGEST_BLOCK_SIZE_BYTES,
  LARGEST_REQUEST_BYTES,
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

/** What was agreed on. */
export interface Agreement {
  sizeBytes: number;
  /** Whether replies come in chunks that say what they hold. */
  structured: boolean;
  /** The server's number for base:allocation, by which it tells of zeros; absent where it cannot. */
  allocationContext?: number;
  /** Offsets and lengths of requests are multiples of this, but for a disk's end. */
  blockSizeBytes: number;
  /** The most that one request may read, a multiple of the block size. */
  largestReadBytes: number;
}

/** What the coroutine wants next: bytes sent, or exactly so many received. */
type Step = { send: Buffer } | { receiveBytes: number };

type Steps<T> = Generator<Step, T, Buffer>;

/** The zeros that a server sends behind an export when NO_ZEROES was not agreed on. */
const EXPORT_PADDING_BYTES = 124;

/** Answers are short: a name of 4096 bytes and a few numbers. */
const LONGEST_REPLY_BYTES = 65_536;

/**
 * Comes to terms with a server about the export of a name.
 * @throws DiskliftError without the name of the disk: `SourceNotFound`, `SourcePermissionDenied`, `ImageTooLarge`,
 * `SourceReadError`
 */
export function* negotiate(exportName: string): Steps<Agreement> {
  const hasPadding = yield* exchangeFlags();
  const structured = yield* agree(Option.structuredReply, Buffer.alloc(0));
  const allocationContext = structured ? yield* askForAllocation(exportName) : undefined;
  const facts = (yield* go(exportName)) ?? (yield* takeExport(exportName, hasPadding));
  return { structured, ...(allocationContext === undefined ? {} : { allocationContext }), ...requireSound(facts) };
}

/** @returns whether the server fills up its answer to NBD_OPT_EXPORT_NAME */
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

/** A text with its length before it. */
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
  if (length > LONGEST_REPLY_BYTES) throw violation(`an answer of ${length} bytes to an option`);
  return { type: head.readUInt32BE(12), data: length === 0 ? Buffer.alloc(0) : yield { receiveBytes: length } };
}

/** Sends an option that a server may have or not. @returns whether it has; what comes before its consent goes to `onReply` */
function* agree(option: number, data: Buffer, onReply?: (reply: Reply) => void): Steps<boolean> {
  yield { send: encodeOption(option, data) };
  for (;;) {
    const reply = yield* receiveReply(option);
    if (reply.type === OptionReply.ack) return true;
    if (reply.type === OptionError.tlsRequired) yield* takeLeave(refusalOf(reply));
    if (isOptionError(reply.type)) return false;
    if (onReply === undefined) throw violation(`reply ${reply.type} to option ${option}`);
    onReply(reply);
  }
}

function* askForAllocation(exportName: string): Steps<number | undefined> {
  let context: number | undefined;
  const count = Buffer.from([0, 0, 0, 1]);
  const data = Buffer.concat([encodeString(exportName), count, encodeString(BASE_ALLOCATION)]);
  const isKnown = yield* agree(Option.setMetaContext, data, (reply) => {
    if (reply.type !== OptionReply.metaContext || reply.data.length < 4 || reply.data.toString('utf8', 4) !== BASE_ALLOCATION)
      throw violation('a metadata context that was not asked for');
    if (context !== undefined) throw violation('one metadata context under two numbers');
    context = reply.data.readUInt32BE(0);
  });
  return isKnown ? context : undefined;
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
    if (isOptionError(reply.type)) yield* takeLeave(refusalOf(reply));
    const { data } = reply;
    if (reply.type !== OptionReply.info || data.length < 2) throw violation(`reply ${reply.type} to option ${Option.go}`);
    const kind = data.readUInt16BE(0);
    const lengths: Readonly<Record<number, number>> = { [Info.export]: 12, [Info.blockSize]: 14 };
    if (data.length !== (lengths[kind] ?? data.length)) throw violation(`information ${kind} in ${data.length} bytes`);
    if (kind === Info.export) facts = { size: data.readBigUInt64BE(2), flags: data.readUInt16BE(10) };
    if (kind === Info.blockSize) blockSizes = { minimum: data.readUInt32BE(2), maximum: data.readUInt32BE(10) };
  }
}

/** The way of servers that do not know NBD_OPT_GO: one that lacks the export closes the connection. */
function* takeExport(exportName: string, hasPadding: boolean): Steps<ExportFacts> {
  yield { send: encodeOption(Option.exportName, Buffer.from(exportName)) };
  const data = yield { receiveBytes: 10 };
  const facts = { size: data.readBigUInt64BE(0), flags: data.readUInt16BE(8) };
  if (hasPadding) yield { receiveBytes: EXPORT_PADDING_BYTES };
  return facts;
}

/** Tells the server, which has done nothing wrong. */
function* takeLeave(error: DiskliftError): Steps<never> {
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

function requireSound({ size, flags, blockSizes }: ExportFacts): Pick<Agreement, 'sizeBytes' | 'blockSizeBytes' | 'largestReadBytes'> {
  if ((flags & EXPORT_HAS_FLAGS) === 0) throw violation('an export without flags');
  if (size > BigInt(Number.MAX_SAFE_INTEGER)) throw new DiskliftError('ImageTooLarge', `${size} bytes are more than disklift can address`);
  const sizeBytes = Number(size);
  if (blockSizes === undefined) return { sizeBytes, blockSizeBytes: DEFAULT_BLOCK_SIZE_BYTES, largestReadBytes: LARGEST_REQUEST_BYTES };
  const { minimum, maximum } = blockSizes;
  if (!isPowerOfTwo(minimum) || minimum > LARGEST_BLOCK_SIZE_BYTES || maximum < minimum)
    throw violation(`blocks of ${minimum} to ${maximum} bytes`);
  if (sizeBytes % minimum !== 0) throw violation(`a size of ${size} bytes, which is no multiple of its blocks of ${minimum} bytes`);
  const largest = Math.min(maximum, LARGEST_REQUEST_BYTES);
  return { sizeBytes, blockSizeBytes: minimum, largestReadBytes: largest - (largest % minimum) };
}
