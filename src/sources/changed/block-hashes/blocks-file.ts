/**
 * The file of block hashes, `disklift-blocks/1`: what a later delta compares the disk with. Pure.
 *
 * The header has 64 bytes, and its numbers are big endian. It begins with the 16 bytes "disklift-blocks/". Four numbers
 * of 32 bits follow: the version 1, the algorithm (1 is SHA-256), the bytes of a hash and the bytes of a block. Two
 * numbers of 64 bits are the bytes of the disk and the count of hashes. The last 16 bytes are zeros.
 *
 * The hashes follow, one for each block, in the order of the disk. A block of zeros has 32 zero bytes. The last block
 * is filled up with zeros before it is hashed, so that its hash stays the same when the disk grows by zeros. The last
 * 32 bytes of the file are the SHA-256 of all bytes before them: a hash that storage has lost would read as a block
 * of zeros, and a delta would then leave a change out.
 */

import { type BoundedView, boundedView } from '../../../common/bounded-view.ts';
import { MIB } from '../../../common/bytes.ts';
import type { DiskliftError } from '../../../common/errors.ts';

export const BLOCK_SIZE_BYTES = MIB;
export const HASH_BYTES = 32;
export const HEADER_BYTES = 64;

export const MAGIC = 'disklift-blocks/';
const VERSION = 1;
const SHA256 = 1;

export interface BlocksHeader {
  diskSizeBytes: number;
  blockCount: number;
}

export function countBlocksOf(diskSizeBytes: number): number {
  return Math.ceil(diskSizeBytes / BLOCK_SIZE_BYTES);
}

export function sizeOfBlocksFile(blockCount: number): number {
  return HEADER_BYTES + (blockCount + 1) * HASH_BYTES;
}

export function encodeHeader(diskSizeBytes: number): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.write(MAGIC, 'latin1');
  header.writeUInt32BE(VERSION, 16);
  header.writeUInt32BE(SHA256, 20);
  header.writeUInt32BE(HASH_BYTES, 24);
  header.writeUInt32BE(BLOCK_SIZE_BYTES, 28);
  header.writeBigUInt64BE(BigInt(diskSizeBytes), 32);
  header.writeBigUInt64BE(BigInt(countBlocksOf(diskSizeBytes)), 40);
  return header;
}

export interface HeaderInput {
  /** The first {@link HEADER_BYTES} of the file, or all bytes of a shorter file. */
  bytes: Uint8Array;
  fileSizeBytes: number;
  /** Name of the file in messages. */
  name: string;
}

/** @throws DiskliftError `FormatUnsupported`, without a retry: a full image needs no block hashes */
export function parseHeader({ bytes, fileSizeBytes, name }: HeaderInput): BlocksHeader {
  const view = boundedView({ bytes, name });
  const magic = Buffer.from(bytes.subarray(0, MAGIC.length)).toString('latin1');
  if (magic !== MAGIC) throw refuse(view, 'is no file of block hashes of disklift');
  requireNumber(view, { at: 16, wanted: VERSION, what: 'version' });
  requireNumber(view, { at: 20, wanted: SHA256, what: 'hash algorithm' });
  requireNumber(view, { at: 24, wanted: HASH_BYTES, what: 'hash length' });
  requireNumber(view, { at: 28, wanted: BLOCK_SIZE_BYTES, what: 'block size' });
  const diskSizeBytes = view.u64(32);
  const blockCount = view.u64(40);
  if (blockCount !== countBlocksOf(diskSizeBytes)) throw refuse(view, `has ${blockCount} hashes for a disk of ${diskSizeBytes} bytes`);
  for (let at = 48; at < HEADER_BYTES; at += 4) requireNumber(view, { at, wanted: 0, what: 'reserved number' });
  const wantedBytes = sizeOfBlocksFile(blockCount);
  if (fileSizeBytes !== wantedBytes)
    throw refuse(view, `has ${fileSizeBytes} bytes, and the hashes of a disk of ${diskSizeBytes} bytes need ${wantedBytes}`);
  return { diskSizeBytes, blockCount };
}

function requireNumber(view: BoundedView, { at, wanted, what }: { at: number; wanted: number; what: string }): void {
  const found = view.u32(at);
  if (found !== wanted) throw refuse(view, `has ${what} ${found}, and this version of disklift reads ${wanted}`);
}

function refuse(view: BoundedView, why: string): DiskliftError {
  return view.refuse(`${why}; make a full image instead`);
}
