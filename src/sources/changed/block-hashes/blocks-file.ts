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

import { MIB } from '../../../common/bytes.ts';
import { DiskliftError } from '../../../common/errors.ts';

export const BLOCK_SIZE_BYTES = MIB;
export const HASH_BYTES = 32;
export const HEADER_BYTES = 64;

export const MAGIC = 'disklift-blocks/';
const VERSION = 1;
const SHA256 = 1;

const FIXED_NUMBERS = [
  [16, VERSION, 'version'],
  [20, SHA256, 'hash algorithm'],
  [24, HASH_BYTES, 'hash length'],
  [28, BLOCK_SIZE_BYTES, 'block size'],
  ...[48, 52, 56, 60].map((at) => [at, 0, 'reserved number'] as const),
] as const;

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

/** @throws DiskliftError `ChangesRefused` */
export function parseHeader({ bytes, fileSizeBytes, name }: HeaderInput): BlocksHeader {
  const refuse = (why: string) => new DiskliftError('ChangesRefused', `${name}: ${why}; make a full image instead`);
  const header = Buffer.from(bytes);
  if (header.subarray(0, MAGIC.length).toString('latin1') !== MAGIC) throw refuse('is no file of block hashes of disklift');
  if (header.length < HEADER_BYTES) throw refuse(`ends within its header, at byte ${header.length}`);
  for (const [at, wanted, what] of FIXED_NUMBERS) {
    const found = header.readUInt32BE(at);
    if (found !== wanted) throw refuse(`has ${what} ${found}, and this version of disklift reads ${wanted}`);
  }
  const [diskSizeBytes, blockCount] = [header.readBigUInt64BE(32), header.readBigUInt64BE(40)].map(Number) as [number, number];
  // Numbers of 2^53 and more are not exact here, and no disk is that large.
  if (!Number.isSafeInteger(diskSizeBytes)) throw refuse(`has the hashes of a disk of ${diskSizeBytes} bytes`);
  if (blockCount !== countBlocksOf(diskSizeBytes)) throw refuse(`has ${blockCount} hashes for a disk of ${diskSizeBytes} bytes`);
  const wantedBytes = sizeOfBlocksFile(blockCount);
  if (fileSizeBytes !== wantedBytes)
    throw refuse(`has ${fileSizeBytes} bytes, and the hashes of a disk of ${diskSizeBytes} bytes need ${wantedBytes}`);
  return { diskSizeBytes, blockCount };
}
