/**
 * The numbers and texts of the NBD protocol (doc/proto.md of NetworkBlockDevice/nbd), and the error of a violation. All
 * integers are big-endian.
 */

import { MIB } from '../../common/bytes.ts';
import { DiskliftError } from '../../common/errors.ts';

/** "NBDMAGIC", the first word that every server sends. */
export const SERVER_MAGIC = 0x4e42_444d_4147_4943n;
/** "IHAVEOPT", sent by newstyle servers and in front of every option. */
export const OPTION_MAGIC = 0x4948_4156_454f_5054n;
export const OPTION_REPLY_MAGIC = 0x0003_e889_0455_65a9n;

/** Handshake flags; the client answers with the same bits. */
export const FLAG_FIXED_NEWSTYLE = 1;
export const FLAG_NO_ZEROES = 2;

export const Option = { exportName: 1, abort: 2, go: 7, structuredReply: 8, listMetaContext: 9, setMetaContext: 10 } as const;

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
/**
 * A flag of base:allocation: the bytes read as zeros. The other flag, HOLE, does not affect the bytes that are read.
 */
export const STATE_ZERO = 2;

/** QEMU's contexts (docs/interop/nbd.txt). Flags mean something else in each context. */
export const DIRTY_BITMAP_PREFIX = 'qemu:dirty-bitmap:';
/** The only flag of a dirty bitmap: written to since the bitmap was cleared. */
export const STATE_DIRTY = 1;
/**
 * The flags are a number: 0 where nothing is allocated, 1 where the exported image holds the bytes, 2 where its backing
 * file does, and so on.
 */
export const ALLOCATION_DEPTH = 'qemu:allocation-depth';
export const DEPTH_OF_EXPORTED_IMAGE = 1;

export const REQUEST_MAGIC = 0x2560_9513;
export const REQUEST_SIZE_BYTES = 28;
export const Command = { read: 0, disconnect: 2, blockStatus: 7 } as const;

export const SIMPLE_REPLY_MAGIC = 0x6744_6698;
export const CHUNK_MAGIC = 0x668e_33ef;
export const CHUNK_DONE = 1;
export const Chunk = { none: 0, offsetData: 1, offsetHole: 2, blockStatus: 5, errorOffset: 0x8002 } as const;
/** This bit of a chunk's type means an error, also in types that are not known. */
export const CHUNK_IS_ERROR = 0x8000;

/** Limit of the names of exports and of all other texts. */
export const MAX_STRING_BYTES = 4096;

/** Block size and request size of servers that state none. */
export const DEFAULT_BLOCK_SIZE_BYTES = 512;
export const MAX_REQUEST_BYTES = 32 * MIB;
/** No server may require larger blocks. */
export const MAX_BLOCK_SIZE_BYTES = 65_536;

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

/** The name of an error on the wire. The machine's own errno numbers may differ. */
export function errorName(error: number): string {
  return ERRORS[error] ?? `error ${error}`;
}

/** The error of a server that violates the protocol. Nothing that it sends later is reliable. */
export function violation(what: string): DiskliftError {
  return new DiskliftError('SourceReadError', `the server breaks the NBD protocol: ${what}`);
}

const MAX_SHOWN_LENGTH = 200;

/** A server's text as one line of a message. */
export function shownText(bytes: Buffer): string {
  const line = bytes
    .toString('utf8')
    .replace(/[\p{C}\s]+/gu, ' ')
    .trim();
  return line.length > MAX_SHOWN_LENGTH ? `${line.slice(0, MAX_SHOWN_LENGTH)}...` : line;
}

/** The u64 at `at`. @throws DiskliftError when it is 2^53 or more: no disk has such an offset */
export function readOffset(bytes: Buffer, at: number): number {
  const word = bytes.readBigUInt64BE(at);
  if (word > BigInt(Number.MAX_SAFE_INTEGER)) throw violation(`an offset of ${word}`);
  return Number(word);
}
