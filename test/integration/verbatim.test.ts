/** Files that are sent unchanged: deltas, and images of any format. */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { parse, stringify } from 'yaml';
import type { DiskExportStatus } from '../../src/resource/disk-export.ts';
import { disklift, diskliftLine } from '../helpers/disklift.ts';
import { startHttpSink } from '../helpers/http-sink.ts';
import { diskExport } from '../helpers/manifest.ts';
import { runShell } from '../helpers/run-command.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const MIB = 1024 * 1024;
const BACKUP = 'db01/nightly-20261129-020000';

describe('a verbatim file', function () {
  this.timeout(60_000);
  const temp = useTempDir();

  async function shell(line: string): Promise<void> {
    const { code, stdout, stderr } = await runShell(line, { cwd: temp('') });
    assert.equal(code, 0, `${line}: ${stdout}${stderr}`);
  }

  /**
   * Makes a delta as KubeVirt's push mode does: without a backing name, with zeros that the guest wrote over the first
   * 64 KiB.
   */
  async function makeDelta(path: string, options = ''): Promise<void> {
    await shell(`qemu-img create -q -f qcow2 ${options} full.qcow2 4M && qemu-io -c 'write -q -P 0xaa 0 2M' full.qcow2`);
    await shell(`qemu-img create -q -f qcow2 ${options} ${path} 4M`);
    await shell(`qemu-io -c 'write -q -z 0 64k' -c 'write -q -P 0xbb 128k 64k' ${path}`);
  }

  const stream = (flags: string, file: string, out: string) =>
    runShell(`${diskliftLine(['stream'])} ${flags} '${temp(file)}' > '${temp(out)}'`);

  it('keeps the zeros of a delta when it is rebased on its base', async () => {
    await makeDelta('delta.qcow2');
    const { code, stderr } = await stream('--verbatim', 'delta.qcow2', 'out.qcow2');
    assert.deepEqual([code, stderr], [0, '']);
    assert.ok((await readFile(temp('out.qcow2'))).equals(await readFile(temp('delta.qcow2'))));
    for (const file of ['delta.qcow2', 'out.qcow2']) await shell(`qemu-img rebase -u -b full.qcow2 -F qcow2 ${file}`);
    await shell('qemu-img compare delta.qcow2 out.qcow2');
  });

  for (const [options, what] of [
    ['', 'plain'],
    ['-o extended_l2=on,cluster_size=128k', 'with extended L2 entries'],
  ])
    it(`is advised for a delta that is converted, ${what}`, async () => {
      await makeDelta('delta.qcow2', options);
      const { code, stderr } = await stream('-f qcow2', 'delta.qcow2', 'out.qcow2');
      assert.equal(code, 0, stderr);
      assert.match(stderr, /^disklift: warning: .*delta\.qcow2: has explicit zero clusters and no backing file; .*--verbatim.*\n$/);
    });

  it('is not advised if the delta names its backing file or has no zero clusters', async () => {
    await makeDelta('delta.qcow2');
    await shell('qemu-img rebase -u -b full.qcow2 -F qcow2 delta.qcow2');
    for (const file of ['delta.qcow2', 'full.qcow2']) {
      const { code, stderr } = await stream('-f qcow2', file, 'out.qcow2');
      assert.deepEqual([code, stderr], [0, '']);
    }
  });

  it('has the length that measure prints, in each format', async () => {
    await createDisk(temp('disk.img'), 8 * MIB, [{ offsetBytes: MIB, lengthBytes: 2 * MIB, content: 'random' }]);
    for (const format of ['qcow2', 'vmdk', 'vhdx', 'vdi', 'vpc', 'raw']) {
      const file = `image.${format}`;
      await shell(`qemu-img convert -f raw -O ${format} disk.img ${file}`);
      const bytes = await readFile(temp(file));
      const { code, stderr } = await stream('--verbatim', file, 'out');
      assert.deepEqual([code, stderr], [0, '']);
      assert.ok((await readFile(temp('out'))).equals(bytes), format);
      const { stdout } = await disklift(['measure', '--verbatim', '--output', 'json', temp(file)]);
      assert.equal(JSON.parse(stdout.toString()).imageSizeBytes, bytes.length, format);
    }
  });

  it('has no external data file', async () => {
    await writeFile(temp('a.img'), '');
    for (const flag of ['-d', '-R']) {
      const { code, stderr } = await stream(`--verbatim ${flag}`, 'a.img', 'out');
      assert.equal(code, 2);
      assert.match(stderr, /--verbatim sends the file as it is/);
    }
  });

  describe('in a request', () => {
    async function run(url: string, spec: object) {
      const source = { persistentVolumeClaim: { claimName: 'claim' }, disks: [{ path: 'db01/*/*.qcow2' }] };
      await writeFile(temp('request.yaml'), stringify(diskExport('one', { http: { url: `${url}/{disk}` } }, { source, ...spec })));
      const result = await disklift(['export', '-f', temp('request.yaml'), '--volume', `claim=${temp('volume')}`]);
      return { ...result, status: (parse(result.stdout.toString()) as { status: DiskExportStatus }).status };
    }

    beforeEach(async () => {
      await mkdir(temp(`volume/${BACKUP}`), { recursive: true });
      await makeDelta(`volume/${BACKUP}/nightly-rootdisk.qcow2`);
      await shell(`cp volume/${BACKUP}/nightly-rootdisk.qcow2 volume/${BACKUP}/nightly-data.qcow2`);
    });

    it('arrives byte for byte, with its length and its SHA-256, from each path that matches a pattern', async () => {
      await using sink = await startHttpSink();
      const { code, stderr, status } = await run(sink.url, { image: { layout: 'Verbatim' } });
      assert.equal(code, 0, stderr);
      const bytes = await readFile(temp(`volume/${BACKUP}/nightly-rootdisk.qcow2`));
      assert.deepEqual([...sink.complete.keys()].sort(), ['/nightly-data', '/nightly-rootdisk']);
      for (const body of sink.complete.values()) assert.ok(body.equals(bytes));
      const sha256 = createHash('sha256').update(bytes).digest('hex');
      assert.deepEqual(
        status.disks?.map((disk) => [disk.path, disk.imageBytes, disk.sha256]),
        ['data', 'rootdisk'].map((volume) => [`${BACKUP}/nightly-${volume}.qcow2`, bytes.length, sha256]),
      );
      assert.equal(
        status.conditions?.find(({ type }) => type === 'ZerosMayBeLost'),
        undefined,
      );
    });

    it("is refused in KubeVirt's backup layout until the request names a layout", async () => {
      await using sink = await startHttpSink();
      const { code, stderr, status } = await run(sink.url, {});
      assert.equal(code, 2, stderr);
      assert.match(stderr, /nightly-data\.qcow2: lies where KubeVirt writes backups.*spec\.image\.layout/);
      assert.equal(status.phase, 'Failed');
      assert.equal(sink.requests.length, 0);
    });

    it('is converted on request, and the status warns of the possible loss', async () => {
      await using sink = await startHttpSink();
      const { code, stderr, status } = await run(sink.url, { image: { layout: 'Converted' } });
      assert.equal(code, 0, stderr);
      const condition = status.conditions?.find(({ type }) => type === 'ZerosMayBeLost');
      assert.deepEqual([condition?.status, condition?.reason], ['True', 'ExplicitZeroClusters']);
      assert.match(condition?.message ?? '', /nightly-data\.qcow2: has explicit zero clusters.*nightly-rootdisk\.qcow2: has explicit/);
      assert.match(stderr, /has explicit zero clusters and no backing file/);
    });
  });
});
