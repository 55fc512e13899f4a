// Runs alone: it measures the memory of its process.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { type BaseBlocks, openBaseBlocks, type RangedFile } from '../../../../../src/sources/changed/block-hashes/base-blocks.ts';
import { createBlockHashes } from '../../../../../src/sources/changed/block-hashes/block-hashes.ts';
import { encodeHeader, parseHeader } from '../../../../../src/sources/changed/block-hashes/blocks-file.ts';
import { bytesOfFile, hang, rangedFile } from '../../../../helpers/block-hashes.ts';
import { NEVER } from '../../../../helpers/image-in-process.ts';

const MIB = 1024 * 1024;
const HEADER = 64;
const HASH = 32;

const hashOf = (text: string) => createHash('sha256').update(text).digest();

/** Block n has a hash, unless `zeros` has n. */
async function fileOf(diskSizeBytes: number, zeros: readonly number[] = []): Promise<Buffer> {
  const hashes = createBlockHashes();
  const blockCount = Math.ceil(diskSizeBytes / MIB);
  for (let block = 0; block < blockCount; block += 1) hashes.set(block, zeros.includes(block) ? undefined : hashOf(`${block}`));
  return bytesOfFile({ sizeBytes: 0, chunks: () => hashes.file(diskSizeBytes, blockCount) });
}

async function readAll(base: BaseBlocks): Promise<Buffer> {
  const windows: Uint8Array[] = [];
  let next = 0;
  for await (const { firstBlock, endBlock, bytes } of base.windows(NEVER)) {
    assert.equal(firstBlock, next);
    assert.equal(bytes.length, (endBlock - firstBlock) * HASH);
    windows.push(bytes);
    next = endBlock;
  }
  return Buffer.concat(windows);
}

describe('the file of block hashes', () => {
  it('has the header, the hashes in order, zeros for blocks of zeros, and a checksum', async () => {
    const file = await fileOf(3 * MIB + 512, [1]);
    const header =
      '6469736b6c6966742d626c6f636b732f' +
      '00000001' +
      '00000001' +
      '00000020' +
      '00100000' +
      '0000000000300200' +
      '0000000000000004' +
      '00'.repeat(16);
    assert.equal(file.subarray(0, HEADER).toString('hex'), header);
    assert.deepEqual(file.subarray(HEADER, -HASH), Buffer.concat([hashOf('0'), Buffer.alloc(HASH), hashOf('2'), hashOf('3')]));
    assert.deepEqual(file.subarray(-HASH), createHash('sha256').update(file.subarray(0, -HASH)).digest());
  });

  for (const sizeBytes of [0, 1, MIB, MIB + 1, 20_000 * MIB])
    it(`is read back as it was written, for a disk of ${sizeBytes} bytes`, async () => {
      const file = await fileOf(sizeBytes, [3, 300, 301, 9000]);
      const base = await openBaseBlocks(rangedFile(file), NEVER);
      assert.deepEqual([base.diskSizeBytes, base.blockCount], [sizeBytes, Math.ceil(sizeBytes / MIB)]);
      assert.ok((await readAll(base)).equals(file.subarray(HEADER, -HASH)));
    });

  it('is read in ranges of at most 256 KiB, each once', async () => {
    const file = await fileOf(20_000 * MIB);
    const ranges: [number, number][] = [];
    const ranged: RangedFile = {
      ...rangedFile(file),
      async readRange(start, end) {
        ranges.push([start, end]);
        return file.subarray(start, end);
      },
    };
    await readAll(await openBaseBlocks(ranged, NEVER));
    assert.ok(ranges.every(([start, end]) => end - start <= 256 * 1024));
    assert.equal(
      ranges.reduce((sum, [start, end]) => sum + end - start, 0),
      file.length,
    );
  });

  it('costs no memory for zeros, however large the disk', async () => {
    const hashes = createBlockHashes();
    const before = process.memoryUsage().arrayBuffers;
    hashes.set(2 ** 24 - 1, hashOf('last'));
    for (let block = 0; block < 2 ** 20; block += 1) hashes.set(block, undefined);
    assert.ok(process.memoryUsage().arrayBuffers - before < MIB);
    assert.equal(hashes.skipZeros(0, 2 ** 24), 2 ** 24 - 1);
    assert.equal(hashes.skipZeros(5, 2 ** 24 - 1), 2 ** 24 - 1);
  });

  const HEADER_FAULTS: [what: string, spoil: (file: Buffer) => unknown, message: RegExp][] = [
    ['another magic', (file) => file.write('X', 3), /is no file of block hashes/],
    ['an empty file', () => Buffer.alloc(0), /is no file of block hashes/],
    ['another version', (file) => file.writeUInt32BE(2, 16), /has version 2, and this version of disklift reads 1/],
    ['another algorithm', (file) => file.writeUInt32BE(9, 20), /has hash algorithm 9/],
    ['another hash length', (file) => file.writeUInt32BE(64, 24), /has hash length 64/],
    ['another block size', (file) => file.writeUInt32BE(65_536, 28), /has block size 65536, and .* reads 1048576/],
    ['a disk of 2^53 bytes and more', (file) => file.writeBigUInt64BE(2n ** 53n, 32), /base\.blocks: /],
    ["a count that is not the size's", (file) => file.writeBigUInt64BE(5n, 40), /has 5 hashes for a disk of 4194304 bytes/],
    ['a count above all numbers', (file) => file.writeBigUInt64BE(2n ** 64n - 1n, 40), /base\.blocks: /],
    ['reserved bytes in use', (file) => file.writeUInt8(1, 60), /has reserved number/],
    ['a header cut short', (file) => file.subarray(0, 40), /base\.blocks: ends within its header, at byte 40/],
    ['hashes cut short', (file) => file.subarray(0, -1), /has 223 bytes, and the hashes of a disk of 4194304 bytes need 224/],
    ['bytes behind the end', (file) => Buffer.concat([file, Buffer.alloc(1)]), /has 225 bytes/],
  ];
  for (const [what, spoil, message] of HEADER_FAULTS)
    it(`is refused with ${what}`, async () => {
      const file = await fileOf(4 * MIB);
      const spoiled = spoil(file);
      await assert.rejects(openBaseBlocks(rangedFile(Buffer.isBuffer(spoiled) ? spoiled : file), NEVER), {
        code: 'ChangesRefused',
        retryable: false,
        message,
      });
    });

  it('is refused when a byte of any hash is not the one that was written', async () => {
    for (const at of [HEADER, HEADER + 10_000 * HASH, HEADER + 20_000 * HASH - 1]) {
      const file = await fileOf(20_000 * MIB);
      file[at] = (file[at] as number) ^ 1;
      const base = await openBaseBlocks(rangedFile(file), NEVER);
      await assert.rejects(readAll(base), { code: 'ChangesRefused', message: /do not match its checksum/ });
    }
  });

  it('is refused when it is another file than the one whose SHA-256 is known', async () => {
    const file = await fileOf(4 * MIB);
    const sha256 = createHash('sha256').update(file).digest('hex');
    await readAll(await openBaseBlocks({ ...rangedFile(file), sha256 }, NEVER));
    const other = await openBaseBlocks({ ...rangedFile(await fileOf(4 * MIB, [1])), sha256 }, NEVER);
    await assert.rejects(readAll(other), { code: 'ChangesRefused', message: /is another file than the one whose SHA-256 is known/ });
  });

  it('is refused when the place gives fewer or more bytes than it was asked for', async () => {
    const file = await fileOf(4 * MIB);
    for (const change of [-1, 1]) {
      const ranged = { ...rangedFile(file), readRange: async (start: number, end: number) => Buffer.alloc(end - start + change) };
      await assert.rejects(openBaseBlocks(ranged, NEVER), { code: 'ChangesRefused', message: /gave \d+ of the 64 bytes/ });
    }
  });

  it('passes on the error of its place', async () => {
    const ranged = { ...rangedFile(await fileOf(MIB)), readRange: async () => Promise.reject(new Error('away')) };
    await assert.rejects(openBaseBlocks(ranged, NEVER), /away/);
  });

  it('ends at once with a cancel while its place hangs', async () => {
    const file = await fileOf(4 * MIB);
    for (const hangsAt of [0, HEADER]) {
      const cancel = new AbortController();
      const ranged: RangedFile = {
        ...rangedFile(file),
        readRange: async (start, end) => (start === hangsAt ? hang(new AbortController().signal) : file.subarray(start, end)),
      };
      const reading = openBaseBlocks(ranged, cancel.signal).then(async (base) => {
        for await (const _ of base.windows(cancel.signal));
      });
      setImmediate(() => cancel.abort());
      await assert.rejects(reading, { code: 'Cancelled' });
    }
  });

  it('never throws anything but a DiskliftError for random headers', () => {
    for (let round = 0; round < 2000; round += 1) {
      const bytes = encodeHeader(round * 77_777);
      for (let count = 0; count < 1 + (round % 4); count += 1) bytes[(round * 31 + count * 17) % bytes.length] = (round * 7 + count) % 256;
      try {
        parseHeader({ bytes: bytes.subarray(0, 64 - (round % 3)), fileSizeBytes: 96, name: 'random' });
      } catch (error) {
        assert.equal((error as { code?: string }).code, 'ChangesRefused', String(error));
      }
    }
  });
});
