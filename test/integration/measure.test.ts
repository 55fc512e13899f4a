import assert from 'node:assert/strict';
import { disklift } from '../helpers/disklift.ts';
import { runCommand } from '../helpers/run-command.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const MIB = 1024 * 1024;

describe('disklift measure', () => {
  const temp = useTempDir();

  it('prints the facts as JSON', async () => {
    const disk = await createDisk(temp('disk.img'), 16 * MIB, [
      { offsetBytes: 0, lengthBytes: 65_536, content: 'random' },
      { offsetBytes: 4 * MIB, lengthBytes: MIB, content: 'zeros' },
      { offsetBytes: 8 * MIB, lengthBytes: MIB, content: 'random' },
    ]);
    const { code, stdout } = await disklift(['measure', disk, '--output', 'json']);
    assert.equal(code, 0);
    assert.deepEqual(JSON.parse(stdout.toString()), {
      virtualSizeBytes: 16 * MIB,
      // header, refcount table, refcount block, L1 table, L2 table, 17 data clusters
      imageSizeBytes: (5 + 17) * 65_536,
      clusters: { total: 256, data: 17, zero: 16, hole: 223 },
      extents: 2,
    });
  });

  it('prints them as text by default', async () => {
    const disk = await createDisk(temp('disk.img'), MIB);
    const { stdout } = await disklift(['measure', disk]);
    assert.match(
      stdout.toString(),
      /^virtual size: 1048576 bytes\nimage size: +262144 bytes\nclusters: +16 \(0 data in 0 extents, 0 zero, 16 in holes\)\n$/,
    );
  });

  it("agrees with qemu-img measure's fully allocated size of a full disk", async () => {
    const disk = await createDisk(temp('disk.img'), 24 * MIB, [{ offsetBytes: 0, lengthBytes: 24 * MIB, content: 'random' }]);
    for (const clusterSize of [512, 65_536, 2 * MIB]) {
      const ours = JSON.parse((await disklift(['measure', disk, '-c', `${clusterSize}`, '--output', 'json'])).stdout.toString());
      const args = ['measure', '-f', 'raw', '-O', 'qcow2', '--output=json', '-o', `cluster_size=${clusterSize}`, disk];
      const theirs = JSON.parse((await runCommand('qemu-img', args)).stdout.toString());
      assert.equal(ours.imageSizeBytes, theirs['fully-allocated']);
    }
  });

  it('shows its version and its help', async () => {
    assert.match((await disklift(['--version'])).stdout.toString(), /^\d+\.\d+\.\d+\n$/);
    const help = await disklift(['stream', '--help']);
    assert.equal(help.code, 0);
    assert.match(help.stdout.toString(), /--zero-detection/);
  });
});
