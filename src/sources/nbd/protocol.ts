/** The numbers of the NBD protocol (its document: doc/proto.md of NetworkBlockDevice/nbd), and what a breach of it is called. All integers are big-endian. */

import { MIB } from '../../common/bytes.ts';
import { DiskliftError } from '../../common/errors.ts';

/** "NBDMAGIC", the first word of every server. */
export const SERVER_MAGIC = 0x4e42_444d_4147_4943n;
/** "IHAVEOPT", of newstyle servers and of every option. */
export const OPTION_MAGIC = 0x4948_4156_454f_5054n;
export const OPTION_REPLY_MAGIC = 0x0003_e889_0455_65a9n;

/** Handshake flags; the client answers with the same bits. */
export const FLAG_FIXED_NEWSTYLE = 1;
export const FLAG_NO_ZEROES = 2;

export const Option = { exportName: 1, abort: 2, go: 7, structuredReply: 8, setMetaContext: 10 } as const;

export const OptionReply = { ack: 1, info: 3, metaContext: 4 } as const;
export const OPTION_ERROR = 0x8000_0000;
export const OptionError = {
  unsupported: OPTION_ERROR + 1,
  policy: OPTION_ERROR + 2,
  tlsRequired: OPTION_ERROR + 5,
  unknown: OPTION_ERROR + 6,
} as const;

export function isOptionError(replyType: number): boolean {
  return replyType >= OPTION_ERROR;
}

export const Info = { export: 0, blockSize: 3 } as const;

/** Set by every server in the flags of an export. */
export const EXPORT_HAS_FLAGS = 1;

export const BASE_ALLOCATION = 'base:allocation';
/** Of base:allocation: the bytes read as zeros. The other flag, HOLE, says nothing of what is read. */
export const STATE_ZERO = 2;

export const REQUEST_MAGIC = 0x2560_9513;
export const REQUEST_SIZE_BYTES = 28;
export const Command = { read: 0, disconnect: 2, blockStatus: 7 } as const;

export const SIMPLE_REPLY_MAGIC = 0x6744_6698;
export const CHUNK_MAGIC = 0x668e_33ef;
export const CHUNK_DONE = 1;
export const Chunk = { none: 0, offsetData: 1, offsetHole: 2, blockStatus: 5, errorOffset: 0x8002 } as const;
/** Chunks of a type with this bit tell of an error, those that are not known too. */
export const CHUNK_IS_ERROR = 0x8000;

/** Names of exports, and every other text. */
export const LONGEST_STRING_BYTES = 4096;

/** What servers that name no block sizes can be asked for. */
export const DEFAULT_BLOCK_SIZE_BYTES = 512;
export const LARGEST_REQUEST_BYTES = 32 * MIB;
/** No server may ask for larger steps. */
export const LARGEST_BLOCK_SIZE_BYTES = 65_536;

const ERRORS: Readonly<Record<number, string>> = {
  1: 'EPERM',
  5: 'EIO',
  12: 'ENOMEM',
  22: 'EINVAL',
  28: 'ENOSPC',
  75: 'EOVERFLOW',
  95: 'ENOTSUP',
  108: 'ESHUTDOWN',
};

/** The name of an error on the wire, whatever the machine's own number for it is. */
export function errorName(error: number): string {
  return ERRORS[error] ?? `error ${error}`;
}

/** The server did what the protocol forbids: nothing that it says can be relied on any more. */
export function violation(what: string): DiskliftError {
  return new DiskliftError('SourceReadError', `the server breaks the NBD protocol: ${what}`);
}

const LONGEST_SHOWN = 200;

/** Text of a server, fit for one line of a message. */
export function shownText(bytes: Buffer): string {
  const line = bytes
    .toString('utf8')
    .replace(/[\p{C}\s]+/gu, ' ')
    .trim();
  return line.length > LONGEST_SHOWN ? `${line.slice(0, LONGEST_SHOWN)}...` : line;
}

/** The u64 at `at`. @throws DiskliftError when it is 2^53 or more, which no offset on a disk can be */
export function readOffset(bytes: Buffer, at: number): number {
  const word = bytes.readBigUInt64BE(at);
  if (word > BigInt(Number.MAX_SAFE_INTEGER)) throw violation(`an offset of ${word}`);
  return Number(word);
}
