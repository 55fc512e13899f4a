import assert from 'node:assert/strict';
import { DiskliftError } from '../../../../src/common/errors.ts';
import {
  type BitmapPlace,
  parseBitmapDirectory,
  parseBitmapTable,
  runsOfBits,
  type StoredBitmap,
  sizeOfBitmapTable,
} from '../../../../src/qcow2/read/dirty-bitmaps.ts';

const refuse = (why: string) => new DiskliftError('ChangesRefused', why);

/** An entry of the directory, with the name "nightly". */
function entry(change: (bytes: Buffer) => void = () => {}): Buffer {
  const bytes = Buffer.alloc(32);
  bytes.writeBigUInt64BE(0x50000n, 0);
  bytes.writeUInt32BE(1, 8);
  bytes.writeUInt32BE(2, 12);
  bytes.writeUInt8(1, 16);
  bytes.writeUInt8(16, 17);
  bytes.writeUInt16BE(7, 18);
  bytes.write('nightly', 24);
  change(bytes);
  return bytes;
}

const BITMAP: StoredBitmap = {
  name: 'nightly',
  tableOffset: 0x50000,
  tableEntryCount: 2,
  isInUse: false,
  isRecording: true,
  granularityBytes: 65_536,
};
const HALF = 65_536 * 8 * 4096;
const PLACE: BitmapPlace = {
  bitmap: BITMAP,
  header: { clusterSizeBytes: 4096 },
  diskSizeBytes: HALF + 512,
  fileSizeBytes: 1024 * 1024,
};

function table(...entries: bigint[]): Buffer {
  const bytes = Buffer.alloc(8 * entries.length);
  for (const [index, value] of entries.entries()) bytes.writeBigUInt64BE(value, 8 * index);
  return bytes;
}

describe('stored bitmaps', () => {
  it('are listed with their state', () => {
    assert.deepEqual(parseBitmapDirectory(entry(), 1, 'disk'), [{ ...BITMAP, tableEntryCount: 1 }]);
    const [inUse] = parseBitmapDirectory(
      entry((bytes) => bytes.writeUInt32BE(3, 12)),
      1,
      'disk',
    );
    assert.deepEqual([inUse?.isInUse, inUse?.isRecording], [true, true]);
  });

  const changes: [string, (bytes: Buffer) => void][] = [
    ['flags that are not known', (bytes) => bytes.writeUInt32BE(2 | 8, 12)],
    ['another type', (bytes) => bytes.writeUInt8(2, 16)],
    ['a granularity of 256 bytes', (bytes) => bytes.writeUInt8(8, 17)],
    ['a granularity of 4 GiB', (bytes) => bytes.writeUInt8(32, 17)],
    ['a name behind the end', (bytes) => bytes.writeUInt16BE(9, 18)],
    ['extra data behind the end', (bytes) => bytes.writeUInt32BE(0xffff_ffff, 20)],
    ['a name that is no text', (bytes) => bytes.writeUInt8(0xff, 24)],
    ['a table behind 2^53', (bytes) => bytes.writeBigUInt64BE(2n ** 60n, 0)],
  ];
  for (const [what, change] of changes)
    it(`are refused with ${what}`, () => {
      assert.throws(() => parseBitmapDirectory(entry(change), 1, 'disk'), { code: 'FormatUnsupported' });
    });

  it('have a table of exactly the clusters that the disk needs', () => {
    assert.equal(sizeOfBitmapTable(PLACE, refuse), 16);
    for (const diskSizeBytes of [HALF, 2 * HALF + 1])
      assert.throws(() => sizeOfBitmapTable({ ...PLACE, diskSizeBytes }, refuse), /has 2 clusters, and its disk needs/);
    const huge = { ...PLACE, diskSizeBytes: HALF * 2 ** 21, bitmap: { ...BITMAP, tableEntryCount: 2 ** 21 } };
    assert.throws(() => sizeOfBitmapTable(huge, refuse), { code: 'ChangesRefused' });
  });

  it('have clusters in the file, or none where all bits are equal', () => {
    assert.deepEqual(parseBitmapTable(table(0n, 1n), PLACE, refuse), ['clean', 'dirty']);
    assert.deepEqual(parseBitmapTable(table(0x2000n, 0xff000n), PLACE, refuse), [0x2000, 0xff000]);
    for (const wrong of [0x2001n, 0x2200n, 0x100000n, 2n ** 63n, 2n ** 56n + 4096n])
      assert.throws(() => parseBitmapTable(table(0n, wrong), PLACE, refuse), /has a cluster at/);
    assert.throws(() => parseBitmapTable(table(0n), PLACE, refuse), /is cut short/);
  });

  it('have the lowest bit of a byte first, and equal bits in one run', () => {
    assert.deepEqual(
      [...runsOfBits(Buffer.from([0, 0, 0xff, 0b0000_0001, 0b1000_0000]))].map(({ bitCount, isDirty }) => [bitCount, isDirty]),
      [
        [16, false],
        [9, true],
        [14, false],
        [1, true],
      ],
    );
  });
});
