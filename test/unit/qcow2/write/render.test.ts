// Runs alone: it measures its own memory.

import assert from 'node:assert/strict';
import { GIB } from '../../../../src/common/bytes.ts';
import { createAllocationMapBuilder, fullAllocationMap } from '../../../../src/qcow2/write/allocation-map.ts';
import { createLayout } from '../../../../src/qcow2/write/layout.ts';
import { DEFAULT_OPTIONS } from '../../../helpers/image-in-process.ts';

const SIXTEEN_TIB = 16 * 1024 * GIB;

describe('metadata', () => {
  it('is rendered at any offset of a full 16 TiB disk without the rest', () => {
    const layout = createLayout(fullAllocationMap(SIXTEEN_TIB, 65_536), DEFAULT_OPTIONS);
    const clusters = SIXTEEN_TIB / 65_536;
    const l2TableCount = clusters / 8192;
    const l2TablesOffset = layout.dataOffset - l2TableCount * 65_536;
    assert.ok(layout.dataOffset > 2 * GIB, 'the tables are larger than any memory should hold');

    const entry = Buffer.alloc(8);
    for (const cluster of [0, 1, 8191, 8192, 123_456_789, clusters - 1]) {
      layout.renderMetadata(entry, l2TablesOffset + cluster * 8);
      assert.equal(entry.readBigUInt64BE(), BigInt(layout.dataOffset + cluster * 65_536) | (1n << 63n));
    }
    const heapBefore = process.memoryUsage().arrayBuffers;
    layout.renderMetadata(Buffer.alloc(1_048_576), layout.dataOffset - 1_048_576);
    assert.ok(process.memoryUsage().arrayBuffers - heapBefore < 8 * 1_048_576);
  });

  it('is refused beyond its end and before its start', () => {
    const layout = createLayout(fullAllocationMap(GIB, 65_536), DEFAULT_OPTIONS);
    assert.throws(() => layout.renderMetadata(new Uint8Array(2), layout.dataOffset - 1), RangeError);
    assert.throws(() => layout.renderMetadata(new Uint8Array(1), -1), RangeError);
  });

  it('has one L2 table for two ranges that share it, and none where there is no data', () => {
    const builder = createAllocationMapBuilder(4 * GIB, 65_536);
    builder.append('data', 10);
    builder.append('hole', 10);
    builder.append('data', 8192);
    builder.append('hole', 3 * 8192);
    builder.append('zero', 65_536 - builder.clusterCount - 1);
    builder.append('data', 1);
    const layout = createLayout(builder.build(), DEFAULT_OPTIONS);
    const l2TablesOffset = layout.dataOffset - 3 * 65_536;
    const l1 = Buffer.alloc(64);
    layout.renderMetadata(l1, l2TablesOffset - 65_536);
    const offsets = Array.from({ length: 8 }, (_, index) => Number(l1.readBigUInt64BE(index * 8) & ~(1n << 63n)));
    assert.deepEqual(offsets, [l2TablesOffset, l2TablesOffset + 65_536, 0, 0, 0, 0, 0, l2TablesOffset + 2 * 65_536]);
  });
});
