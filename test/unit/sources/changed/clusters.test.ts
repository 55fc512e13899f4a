import assert from 'node:assert/strict';
import fc from 'fast-check';
import { type ChangedRange, changedClusters } from '../../../../src/sources/changed/clusters.ts';
import type { ChangedExtent } from '../../../../src/sources/changed/contract.ts';
import { SEED, SEED_TEXT } from '../../../helpers/seed.ts';

/** U: unchanged data, u: unchanged zeros, C: changed data, c: changed zeros. A letter is one byte of the disk. */
function extentsOf(disk: string, isJoined = true): ChangedExtent[] {
  const extents: ChangedExtent[] = [];
  for (const [offset, letter] of [...disk].entries()) {
    const last = extents.at(-1);
    if (isJoined && last !== undefined && disk[offset - 1] === letter) last.length += 1;
    else
      extents.push({
        offset,
        length: 1,
        kind: letter === letter.toLowerCase() ? 'zeros' : 'data',
        isChanged: letter.toLowerCase() === 'c',
      });
  }
  return extents;
}

async function rangesOf(disk: string, facts: { baseSizeBytes?: number; isJoined?: boolean; clusterSizeBytes?: number } = {}) {
  const { baseSizeBytes = disk.length, isJoined, clusterSizeBytes = 4 } = facts;
  const extents = async function* () {
    yield* extentsOf(disk, isJoined);
  };
  const ranges: ChangedRange[] = [];
  const input = { extents: extents(), diskSizeBytes: disk.length, clusterSizeBytes, baseSizeBytes };
  for await (const range of changedClusters(input)) ranges.push(range);
  return ranges;
}

/** D: data, Z: zeros, -: unchanged. A letter is a cluster. */
async function lettersOf(...parameters: Parameters<typeof rangesOf>): Promise<string> {
  const letters = { data: 'D', zeros: 'Z', unchanged: '-' };
  return (await rangesOf(...parameters)).map(({ kind, clusterCount }) => letters[kind].repeat(clusterCount)).join('');
}

describe('changed clusters', () => {
  const disks: [what: string, disk: string, clusters: string, baseSizeBytes?: number][] = [
    ['of an empty disk are none', '', ''],
    ['are whole ones of each kind', 'UUUUuuuuCCCCccccUUUU', '--DZ-'],
    ['are read whole for one changed byte at either end', 'CUUUUUUUUUUCUUUU', 'D-D-'],
    ['are zeros where one byte was zeroed and the rest is zeros', 'uucuUUUU', 'Z-'],
    ['are read where one byte was zeroed and the rest is data', 'UUcUuuCu', 'DD'],
    ['are unchanged where nothing changed, whatever they hold', 'UuUuuUuU', '--'],
    ['include the last one, which the end of the disk cuts', 'UUUUUc', '-D'],
    ['include a last one of zeros', 'UUUUuc', '-Z'],
    ['include a last one that is unchanged', 'CCCCU', 'D-'],
    ['behind the base are left out where they are zeros', 'UUUUuuuuuuuu', '---', 4],
    ['behind the base are read where they hold data that the map calls unchanged', 'UUUUuuuuuUuu', '--D', 4],
    ['behind the base are zeros where the guest zeroed them', 'UUUUccccuuuu', '-Z-', 4],
    ['include the one in which the base ends', 'UUUUUUUUuuuu', '-D-', 6],
    ['include the one in which the base ends, as zeros', 'UUUUuuuuuuuu', '-Z-', 6],
    ['are all that hold data where the base is empty', 'UUUUuuuuCccc', 'D-D', 0],
  ];
  for (const [what, disk, clusters, baseSizeBytes = disk.length] of disks)
    it(what, async () => {
      assert.equal(await lettersOf(disk, { baseSizeBytes }), clusters);
      assert.equal(await lettersOf(disk, { baseSizeBytes, isJoined: false }), clusters, 'in extents of one byte');
    });

  it('come as ranges of one kind, as long as possible', async () => {
    assert.deepEqual(await rangesOf('CCCCCCCUUUUUUUUUUUUUcccc', { isJoined: false }), [
      { kind: 'data', firstCluster: 0, clusterCount: 2 },
      { kind: 'unchanged', firstCluster: 2, clusterCount: 3 },
      { kind: 'zeros', firstCluster: 5, clusterCount: 1 },
    ]);
  });

  it(`are those of a comparison byte by byte, for any disk, clusters and base ${SEED_TEXT}`, async () => {
    const byte = fc.constantFrom('U', 'U', 'u', 'u', 'C', 'c');
    const disk = fc.array(fc.tuple(byte, fc.integer({ min: 1, max: 9 })), { maxLength: 20 });
    await fc.assert(
      fc.asyncProperty(disk, fc.constantFrom(1, 2, 4, 8), fc.nat(), fc.boolean(), async (parts, clusterSizeBytes, base, isJoined) => {
        const bytes = parts.map(([letter, count]) => letter.repeat(count)).join('');
        const baseSizeBytes = base % (bytes.length + 1);
        const expected = Array.from({ length: Math.ceil(bytes.length / clusterSizeBytes) }, (_, index) => {
          const start = index * clusterSizeBytes;
          const cluster = bytes.slice(start, start + clusterSizeBytes);
          const isCut = start < baseSizeBytes && start + clusterSizeBytes > baseSizeBytes && start + cluster.length > baseSizeBytes;
          const isNew = start >= baseSizeBytes && /[UC]/.test(cluster);
          if (!/[Cc]/.test(cluster) && !isCut && !isNew) return '-';
          return /[UC]/.test(cluster) ? 'D' : 'Z';
        });
        assert.equal(await lettersOf(bytes, { baseSizeBytes, clusterSizeBytes, isJoined }), expected.join(''));
      }),
      { seed: SEED, numRuns: 500 },
    );
  });
});
