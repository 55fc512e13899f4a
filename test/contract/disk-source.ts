/**
 * The shared suite of the contract DiskSource. Each implementation calls it with a function that opens a disk of given
 * parts.
 */

import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import fs from 'node:fs';
import type { DiskSource, SourceExtent } from '../../src/sources/contract.ts';
import { NEVER } from '../helpers/image-in-process.ts';
import type { DiskPart } from '../helpers/sparse-disk.ts';

const MIB = 1024 * 1024;

export interface OpenedDisk extends AsyncDisposable {
  source: DiskSource;
  /** The true content of the disk. */
  content: Buffer;
}

export interface DiskSourceCase {
  open(sizeBytes: number, parts: readonly DiskPart[]): Promise<OpenedDisk>;
  /** Sizes of block devices are whole sectors. */
  sizeStepBytes: number;
  /** Whether holes must be found; otherwise everything may be reported as data. */
  findsHoles: boolean;
}

async function extentsOf(source: DiskSource): Promise<SourceExtent[]> {
  const extents: SourceExtent[] = [];
  for await (const extent of source.extents(NEVER)) extents.push(extent);
  return extents;
}

const PARTS: DiskPart[] = [
  { offsetBytes: 0, lengthBytes: 5000, content: 'random' },
  { offsetBytes: 3 * MIB + 17, lengthBytes: 1, content: 'random' },
  { offsetBytes: 5 * MIB, lengthBytes: 2 * MIB, content: 'zeros' },
  { offsetBytes: 9 * MIB - 1000, lengthBytes: 1000, content: 'random' },
];
const DISK_SIZE_BYTES = 12 * MIB;

export function itIsADiskSource({ open, sizeStepBytes, findsHoles }: DiskSourceCase): void {
  it('states its size', async () => {
    await using opened = await open(DISK_SIZE_BYTES + sizeStepBytes, PARTS);
    assert.equal(opened.source.sizeBytes, DISK_SIZE_BYTES + sizeStepBytes);
  });

  it('has extents that cover the disk in order, and whose zero extents are zeros', async () => {
    await using opened = await open(DISK_SIZE_BYTES, PARTS);
    let at = 0;
    for (const { offset, length, kind } of await extentsOf(opened.source)) {
      assert.equal(offset, at);
      assert.ok(length > 0);
      at += length;
      if (kind === 'zeros') assert.ok(opened.content.subarray(offset, at).every((byte) => byte === 0));
    }
    assert.equal(at, DISK_SIZE_BYTES);
  });

  if (findsHoles)
    it('finds the holes', async () => {
      await using opened = await open(DISK_SIZE_BYTES, PARTS);
      const zeros = (await extentsOf(opened.source)).filter(({ kind }) => kind === 'zeros');
      assert.ok(zeros.length >= 3, `${zeros.length} holes`);
      const holeBytes = zeros.reduce((sum, { length }) => sum + length, 0);
      assert.ok(holeBytes > 8 * MIB, `${holeBytes} bytes of holes`);
    });

  it('reads the bytes of any range', async () => {
    await using opened = await open(DISK_SIZE_BYTES, PARTS);
    for (let round = 0; round < 50; round += 1) {
      const offset = randomInt(DISK_SIZE_BYTES);
      const buffer = Buffer.alloc(randomInt(1, Math.min(2 * MIB, DISK_SIZE_BYTES - offset) + 1), 0xff);
      await opened.source.read(buffer, offset, NEVER);
      assert.ok(buffer.equals(opened.content.subarray(offset, offset + buffer.length)), `${buffer.length} bytes at ${offset}`);
    }
  });

  it('fails, and gives no zeros, for a read beyond its end', async () => {
    await using opened = await open(DISK_SIZE_BYTES, PARTS);
    const buffer = Buffer.alloc(4096);
    await assert.rejects(opened.source.read(buffer, DISK_SIZE_BYTES - 2048, NEVER), (error: Error & { code?: string }) => {
      assert.equal(error.code, 'SourceChanged');
      assert.match(error.message, new RegExp(`offset ${DISK_SIZE_BYTES}\\b`));
      return true;
    });
  });

  it('has its bytes in the file extents that it reports, if any', async () => {
    await using opened = await open(DISK_SIZE_BYTES, PARTS);
    const { source, content } = opened;
    for (const [offset, length] of [
      [0, DISK_SIZE_BYTES],
      [1234, 3 * MIB],
    ] as const) {
      let at = offset;
      for (const place of source.fileExtents?.(offset, length) ?? []) {
        assert.ok(place.offset >= at && place.length > 0, `${place.length} bytes at ${place.offset}, behind ${at}`);
        at = place.offset + place.length;
        const bytes = Buffer.alloc(place.length);
        fs.readSync(place.fd, bytes, 0, bytes.length, place.fileOffset);
        assert.ok(bytes.equals(content.subarray(place.offset, at)), `${place.length} bytes at ${place.offset}`);
      }
      assert.ok(at <= offset + length);
    }
  });

  it('keeps its identity while it does not change', async () => {
    await using opened = await open(DISK_SIZE_BYTES, PARTS);
    const before = await opened.source.identity();
    await opened.source.read(Buffer.alloc(MIB), 0, NEVER);
    assert.deepEqual(await opened.source.identity(), before);
  });

  it('stops at once when it is cancelled', async () => {
    await using opened = await open(DISK_SIZE_BYTES, PARTS);
    const signal = AbortSignal.abort();
    await assert.rejects(opened.source.read(Buffer.alloc(512), 0, signal), { code: 'Cancelled' });
    await assert.rejects(
      async () => {
        for await (const _ of opened.source.extents(signal));
      },
      { code: 'Cancelled' },
    );
  });
}
