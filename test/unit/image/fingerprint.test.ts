import assert from 'node:assert/strict';
import { fingerprintOf } from '../../../src/image/virtual-image.ts';
import { type ClusterKind, createAllocationMapBuilder } from '../../../src/qcow2/write/allocation-map.ts';
import { createLayout } from '../../../src/qcow2/write/layout.ts';
import { DEFAULT_OPTIONS } from '../../helpers/image-in-process.ts';

const identity = { size: '1', mtime: '2' };

function layoutWithDataAt(clusters: readonly number[], options = DEFAULT_OPTIONS) {
  const builder = createAllocationMapBuilder(20_000 * 65_536, 65_536);
  for (const cluster of clusters) {
    builder.append('hole', cluster - builder.clusterCount);
    builder.append('data', 1);
  }
  builder.append('hole', 20_000 - builder.clusterCount);
  return createLayout(builder.build(), options);
}

describe('fingerprint', () => {
  it('is the same for the same image, for any order of the facts', () => {
    const again = fingerprintOf(layoutWithDataAt([1, 5]), { mtime: '2', size: '1' });
    assert.equal(fingerprintOf(layoutWithDataAt([1, 5]), identity), again);
  });

  it('differs with the options, the identity, and where the data is, in maps of any length', () => {
    const many = Array.from({ length: 9000 }, (_, index) => index * 2);
    const layouts = [
      layoutWithDataAt([1, 5]),
      layoutWithDataAt([1, 6]),
      layoutWithDataAt([1, 5], { ...DEFAULT_OPTIONS, refcountBits: 8 }),
      layoutWithDataAt([1, 5], { ...DEFAULT_OPTIONS, version: 2 }),
      layoutWithDataAt(many),
      layoutWithDataAt([...many.slice(0, -1), 18_000]),
    ];
    const base = { name: 'full.qcow2', format: 'qcow2' } as const;
    for (const backingFile of [base, { ...base, name: 'old.qcow2' }, { ...base, format: 'raw' as const }])
      layouts.push(layoutWithDataAt([1, 5], { ...DEFAULT_OPTIONS, backingFile }));
    const fingerprints = [
      ...layouts.map((layout) => fingerprintOf(layout, identity)),
      fingerprintOf(layouts[0] as never, { ...identity, mtime: '3' }),
    ];
    assert.equal(new Set(fingerprints).size, fingerprints.length);
  });

  it('differs with the clusters that a delta leaves to its base, and not with how zeros were found', () => {
    const delta = (...ranges: [ClusterKind, number][]) => {
      const builder = createAllocationMapBuilder(8 * 65_536, 65_536);
      for (const [kind, count] of ranges) builder.append(kind, count);
      const options = { ...DEFAULT_OPTIONS, backingFile: { name: 'full.qcow2', format: 'qcow2' } as const };
      return fingerprintOf(createLayout(builder.build(), options), identity);
    };
    const unchanged = delta(['data', 1], ['unchanged', 7]);
    const zeros = delta(['data', 1], ['zero', 4], ['unchanged', 3]);
    assert.equal(new Set([unchanged, zeros, delta(['data', 1], ['unchanged', 3], ['hole', 4])]).size, 3);
    assert.equal(delta(['data', 1], ['hole', 2], ['zero', 2], ['unchanged', 3]), zeros);
  });
});
