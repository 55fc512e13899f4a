import assert from 'node:assert/strict';
import { fingerprintOf } from '../../../src/image/virtual-image.ts';
import { createAllocationMapBuilder } from '../../../src/qcow2/write/allocation-map.ts';
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
    const fingerprints = [
      ...layouts.map((layout) => fingerprintOf(layout, identity)),
      fingerprintOf(layouts[0] as never, { ...identity, mtime: '3' }),
    ];
    assert.equal(new Set(fingerprints).size, fingerprints.length);
  });
});
