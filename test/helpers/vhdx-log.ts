/** VHDX images that were not closed (MS-VHDX 2.3 "Log"). */

import { readFileSync, writeFileSync } from 'node:fs';

const HEADERS_AT = [65_536, 131_072];
const LOG_ID = Buffer.from('00112233445566778899aabbccddeeff', 'hex');
const PAGE = 4096;
const CASTAGNOLI = 0x82f63b78;

function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? CASTAGNOLI : 0);
  }
  return (crc ^ 0xffffffff) >>> 0;
}

/** Gives an image a log of one entry, which zeroes its last 4 KiB. */
export function addVhdxLog(imagePath: string): void {
  const bytes = readFileSync(imagePath);
  const newest = (a: number, b: number) => (bytes.readBigUInt64LE(a + 8) > bytes.readBigUInt64LE(b + 8) ? a : b);
  const header = bytes.subarray(HEADERS_AT.reduce(newest)).subarray(0, PAGE);
  LOG_ID.copy(header, 48);
  header.writeUInt32LE(0, 4);
  header.writeUInt32LE(crc32c(header), 4);
  const entry = Buffer.alloc(PAGE);
  entry.write('loge');
  entry.writeUInt32LE(PAGE, 8); // EntryLength
  entry.writeBigUInt64LE(1n, 16); // SequenceNumber
  entry.writeUInt32LE(1, 24); // DescriptorCount
  LOG_ID.copy(entry, 32);
  entry.writeBigUInt64LE(BigInt(bytes.length), 48); // FlushedFileOffset
  entry.writeBigUInt64LE(BigInt(bytes.length), 56); // LastFileOffset
  entry.write('zero', 64);
  entry.writeBigUInt64LE(BigInt(PAGE), 72); // ZeroLength
  entry.writeBigUInt64LE(BigInt(bytes.length - PAGE), 80); // FileOffset
  entry.writeBigUInt64LE(1n, 88); // SequenceNumber
  entry.writeUInt32LE(crc32c(entry), 4);
  entry.copy(bytes, Number(header.readBigUInt64LE(72))); // LogOffset
  writeFileSync(imagePath, bytes);
}
