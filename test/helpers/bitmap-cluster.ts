/** Where a qcow2 image stores a persistent dirty bitmap (qcow2.rst, "Bitmaps extension"), for tests that write one. */

import assert from 'node:assert/strict';
import { open } from 'node:fs/promises';

const BITMAPS_EXTENSION = 0x23852875;
const OFFSET_MASK = 0x00ff_ffff_ffff_fe00n;

/** Overwrites the only cluster of the only bitmap of an image, from which each bit stands for one granule. */
export async function overwriteBitmap(imagePath: string, byte: number): Promise<void> {
  const file = await open(imagePath, 'r+');
  try {
    const read = async (offset: bigint | number, length: number) =>
      (await file.read(Buffer.alloc(length), 0, length, Number(offset))).buffer;
    const header = await read(0, 65_536);
    const clusterSizeBytes = 2 ** header.readUInt32BE(20);
    let at = header.readUInt32BE(100);
    while (header.readUInt32BE(at) !== BITMAPS_EXTENSION) {
      assert.notEqual(header.readUInt32BE(at), 0, 'the image has no bitmaps');
      at += 8 + Math.ceil(header.readUInt32BE(at + 4) / 8) * 8;
    }
    assert.equal(header.readUInt32BE(at + 8), 1, 'one bitmap');
    const entry = await read(header.readBigUInt64BE(at + 24), 24);
    assert.equal(entry.readUInt32BE(8), 1, 'one cluster');
    const table = await read(entry.readBigUInt64BE(0), 8);
    const offset = table.readBigUInt64BE(0) & OFFSET_MASK;
    assert.notEqual(offset, 0n, 'the bitmap is all ones or all zeros');
    await file.write(Buffer.alloc(clusterSizeBytes, byte), 0, clusterSizeBytes, Number(offset));
  } finally {
    await file.close();
  }
}
