/** `disklift stream -f ...`: qemu-img makes images of one content; the test streams each and compares the result. */

import assert from 'node:assert/strict';
import { copyFile, mkdir, readFile, rm, stat, symlink, truncate, writeFile } from 'node:fs/promises';
import { stringify } from 'yaml';
import { EXPLICIT_ZEROS_NOTICE } from '../../src/formats/qcow2/unnamed-delta.ts';
import { disklift, diskliftLine } from '../helpers/disklift.ts';
import { startHttpSink } from '../helpers/http-sink.ts';
import { attachLoopDevice, requireLoopDevices } from '../helpers/loop-device.ts';
import { diskExport } from '../helpers/manifest.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import { openForWriting, tryToWrite } from '../helpers/qemu-io.ts';
import { type CommandResult, runCommand, runShell } from '../helpers/run-command.ts';
import { apply, startSidecar, waitForStatus } from '../helpers/sidecar.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const MIB = 1024 * 1024;
const DISK_SIZE_BYTES = 24 * MIB;

describe('disklift stream of other formats', function () {
  this.timeout(60_000);
  const temp = useTempDir();
  let disk: string;
  beforeEach(async () => {
    await mkdir(temp('images'));
    disk = await createDisk(temp('disk.img'), DISK_SIZE_BYTES, [
      { offsetBytes: 0, lengthBytes: MIB, content: 'random' },
      { offsetBytes: 5 * MIB + 512, lengthBytes: 3 * MIB, content: 'random' },
      { offsetBytes: 12 * MIB, lengthBytes: MIB, content: 'zeros' },
      { offsetBytes: DISK_SIZE_BYTES - 4096, lengthBytes: 4096, content: 'random' },
    ]);
  });

  async function qemuImg(args: readonly string[]): Promise<void> {
    const { code, stderr } = await runCommand('qemu-img', args, { cwd: temp('images') });
    assert.equal(code, 0, `qemu-img ${args.join(' ')}: ${stderr}`);
  }

  async function stream(image: string, format: string, flags: readonly string[] = [], warning = ''): Promise<void> {
    const out = temp('out.qcow2');
    const { code, stderr } = await runShell(`${diskliftLine(['stream', '-f', format, ...flags, temp(`images/${image}`)])} > '${out}'`);
    assert.deepEqual([code, stderr], [0, warning]);
  }

  const WAYS: [string, string, string[]][] = [
    ['qcow2 version 2', 'qcow2', ['-o', 'compat=0.10']],
    ['qcow2 version 3', 'qcow2', []],
    ['qcow2 with small clusters', 'qcow2', ['-o', 'cluster_size=512']],
    ['qcow2 with extended L2 entries', 'qcow2', ['-o', 'extended_l2=on,cluster_size=128k']],
    ['compressed qcow2', 'qcow2', ['-c']],
    ['qcow2 compressed by zstd', 'qcow2', ['-c', '-o', 'compression_type=zstd']],
    ...['monolithicSparse', 'monolithicFlat', 'twoGbMaxExtentSparse', 'twoGbMaxExtentFlat', 'streamOptimized'].map(
      (subformat): [string, string, string[]] => [`VMDK ${subformat}`, 'vmdk', ['-o', `subformat=${subformat}`]],
    ),
    ['dynamic VHDX', 'vhdx', ['-o', 'subformat=dynamic']],
    ['fixed VHDX', 'vhdx', ['-o', 'subformat=fixed']],
    ['dynamic VDI', 'vdi', []],
    ['static VDI', 'vdi', ['-o', 'static=on']],
    ['dynamic VPC', 'vpc', ['-o', 'subformat=dynamic,force_size=on']],
    ['fixed VPC', 'vpc', ['-o', 'subformat=fixed,force_size=on']],
  ];

  for (const [name, format, flags] of WAYS)
    it(`gives the content of ${name}`, async () => {
      await qemuImg(['convert', '-f', 'raw', '-O', format, ...flags, disk, `image.${format}`]);
      await stream(`image.${format}`, format);
      await assertImageOf(temp('out.qcow2'), disk);
    });

  it('gives the content of a chain of backing files', async () => {
    await qemuImg(['convert', '-f', 'raw', '-O', 'raw', disk, 'base.raw']);
    await qemuImg(['create', '-q', '-f', 'qcow2', '-b', 'base.raw', '-F', 'raw', 'middle.qcow2']);
    await qemuImg(['create', '-q', '-f', 'qcow2', '-b', 'middle.qcow2', '-F', 'qcow2', 'top.qcow2']);
    for (const [name, offset] of Object.entries({ 'middle.qcow2': '1M', 'top.qcow2': '2M' })) {
      const { code } = await runCommand('qemu-io', ['-f', 'qcow2', '-c', `write -P 0x61 ${offset} 64K`, temp(`images/${name}`)]);
      assert.equal(code, 0);
    }
    await qemuImg(['convert', '-f', 'qcow2', '-O', 'raw', 'top.qcow2', 'expected.raw']);
    await stream('top.qcow2', 'qcow2');
    await assertImageOf(temp('out.qcow2'), temp('images/expected.raw'));
  });

  it('gives the content of an external data file', async () => {
    const raw = 'data_file=data.raw,data_file_raw=on';
    for (const options of ['data_file=data.raw', raw]) {
      await qemuImg(['create', '-q', '-f', 'qcow2', '-o', options, 'image.qcow2', `${DISK_SIZE_BYTES}`]);
      await qemuImg(['convert', '-n', '-f', 'raw', '-O', 'qcow2', disk, 'image.qcow2']);
      // QEMU writes the holes of `disk` as zero clusters, as in a delta; an image with a raw data file cannot be a
      // delta.
      const warning = options === raw ? '' : `disklift: warning: ${temp('images/image.qcow2')}: ${EXPLICIT_ZEROS_NOTICE}\n`;
      await stream('image.qcow2', 'qcow2', [], warning);
      await assertImageOf(temp('out.qcow2'), disk);
    }
  });

  it('gives the content of a VMDK with extents of all kinds, in their order', async () => {
    const sectors = (bytes: number) => bytes / 512;
    const content = await readFile(disk);
    await writeFile(temp('images/flat.bin'), Buffer.concat([Buffer.alloc(1024, 7), content.subarray(0, 8 * MIB)]));
    await writeFile(temp('images/tail.raw'), content.subarray(14 * MIB));
    await qemuImg(['convert', '-f', 'raw', '-O', 'vmdk', 'tail.raw', 'tail.vmdk']);
    const lines = [
      ...['# Disk DescriptorFile', 'version=1', 'CID=fffffffe', 'parentCID=ffffffff', 'createType="custom"'],
      `RW ${sectors(8 * MIB)} FLAT "flat.bin" 2`,
      // 8 to 14 MiB of the disk, which ends in written zeros.
      `RW ${sectors(4 * MIB)} ZERO`,
      `RW ${sectors(MIB)} ZERO`,
      `RW ${sectors(MIB)} ZERO`,
      `RW ${sectors(10 * MIB)} SPARSE "tail.vmdk"`,
      '# The Disk Data Base',
    ];
    await writeFile(temp('images/image.vmdk'), `${lines.join('\n')}\n`);
    await writeFile(disk, Buffer.concat([content.subarray(0, 8 * MIB), Buffer.alloc(6 * MIB), content.subarray(14 * MIB)]));
    await stream('image.vmdk', 'vmdk');
    await assertImageOf(temp('out.qcow2'), disk);
  });

  it('gives the content of a VMDK with its parent', async () => {
    await qemuImg(['convert', '-f', 'raw', '-O', 'vmdk', disk, 'parent.vmdk']);
    await qemuImg(['create', '-q', '-f', 'vmdk', '-b', 'parent.vmdk', '-F', 'vmdk', 'child.vmdk']);
    const { code } = await runCommand('qemu-io', ['-f', 'vmdk', '-c', 'write -P 0x61 9M 64K', temp('images/child.vmdk')]);
    assert.equal(code, 0);
    await qemuImg(['convert', '-f', 'vmdk', '-O', 'raw', 'child.vmdk', 'expected.raw']);
    await stream('child.vmdk', 'vmdk');
    await assertImageOf(temp('out.qcow2'), temp('images/expected.raw'));
  });

  it('finds the other files of an image beside the link that names it', async () => {
    await mkdir(temp('images/real'));
    await mkdir(temp('images/links'));
    await qemuImg(['convert', '-f', 'raw', '-O', 'qcow2', disk, 'links/base.qcow2']);
    await qemuImg(['create', '-q', '-f', 'qcow2', 'real/base.qcow2', `${DISK_SIZE_BYTES}`]);
    await qemuImg(['create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'real/top.qcow2']);
    await symlink('../real/top.qcow2', temp('images/links/top.qcow2'));
    await stream('links/top.qcow2', 'qcow2');
    await assertImageOf(temp('out.qcow2'), disk);
    await rm(temp('images/links/base.qcow2'));
    const result = await disklift(['stream', '-f', 'qcow2', temp('images/links/top.qcow2')]);
    assertRefused(result, /its backing file "base\.qcow2": .*links\/base\.qcow2: no such disk image/);
  });

  it('reads only files beneath the directory of --beneath', async () => {
    await mkdir(temp('images/bases'));
    await mkdir(temp('images/vm'));
    await qemuImg(['convert', '-f', 'raw', '-O', 'qcow2', disk, 'bases/base.qcow2']);
    for (const name of ['../bases/base.qcow2', temp('images/bases/base.qcow2')]) {
      await qemuImg(['create', '-q', '-u', '-f', 'qcow2', '-b', name, '-F', 'qcow2', 'vm/top.qcow2', `${DISK_SIZE_BYTES}`]);
      const refused = await disklift(['stream', '-f', 'qcow2', temp('images/vm/top.qcow2')]);
      assertRefused(refused, /(leaves the volume|an absolute path).*qemu-img rebase -u .*, or give --beneath a directory that holds both/);
      await stream('vm/top.qcow2', 'qcow2', ['--beneath', temp('images')]);
      await assertImageOf(temp('out.qcow2'), disk);
      await symlink(temp('images'), temp('alias'));
      await stream('vm/top.qcow2', 'qcow2', ['--beneath', temp('alias')]);
      await assertImageOf(temp('out.qcow2'), disk);
      await rm(temp('alias'));
    }
    for (const [beneath, message] of [
      [temp('images/bases'), /top\.qcow2: does not lie beneath .*bases; name a directory above it/],
      [temp('nothing'), /nothing: not a directory that can be opened/],
    ] as const)
      assertRefused(await disklift(['stream', '-f', 'qcow2', '--beneath', beneath, temp('images/vm/top.qcow2')]), message);
  });

  it('warns of an image that is read as raw without a stated format, and gives the bytes of the file', async () => {
    for (const [name, options] of [
      ['a.qcow2', ['-O', 'qcow2']],
      ['a.vmdk', ['-O', 'vmdk']],
      ['a.vdi', ['-O', 'vdi']],
      ['a.vhdx', ['-O', 'vhdx']],
      ['a.vhd', ['-O', 'vpc', '-o', 'subformat=fixed']],
      ['a.qed', ['-O', 'qed']],
      ['a.img', ['-O', 'qcow2']],
      ['disk.img', ['-O', 'qcow2']],
      ['fixed-vhd', ['-O', 'vpc', '-o', 'subformat=fixed']],
    ] as const) {
      await qemuImg(['convert', '-f', 'raw', ...options, disk, name]);
      const image = temp(`images/${name}`);
      const warned = await runShell(`${diskliftLine(['stream', image])} > '${temp('warned.qcow2')}'`);
      assert.equal(warned.code, 0);
      assert.match(warned.stderr, /^disklift: warning: [^\n]+ is read as a raw disk; [^\n]*-f raw[^\n]*\n$/, name);
      await assertImageOf(temp('warned.qcow2'), image);
      const { stderr } = await disklift(['measure', image]);
      assert.equal(stderr, warned.stderr);
      const stated = await runShell(`${diskliftLine(['stream', '-f', 'raw', image])} > '${temp('stated.qcow2')}'`);
      assert.deepEqual([stated.code, stated.stderr], [0, '']);
      assert.ok((await readFile(temp('stated.qcow2'))).equals(await readFile(temp('warned.qcow2'))), name);
    }
  });

  it('warns of an image that states a disk of 0 bytes although its file holds data', async () => {
    await qemuImg(['convert', '-f', 'raw', '-O', 'qcow2', disk, 'image.qcow2']);
    const bytes = await readFile(temp('images/image.qcow2'));
    bytes.writeBigUInt64BE(0n, 24);
    await writeFile(temp('images/image.qcow2'), bytes);
    const { code, stderr } = await runShell(
      `${diskliftLine(['stream', '-f', 'qcow2', temp('images/image.qcow2')])} > '${temp('out.qcow2')}'`,
    );
    assert.equal(code, 0);
    assert.match(stderr, /^disklift: warning: [^\n]*image\.qcow2: states a disk of 0 bytes[^\n]*\n$/);
  });

  it('has exactly the size that measure prints', async () => {
    await qemuImg(['convert', '-f', 'raw', '-O', 'vhdx', disk, 'image.vhdx']);
    await stream('image.vhdx', 'vhdx', ['-c', '4K']);
    const { stdout, stderr } = await disklift(['measure', '-f', 'vhdx', '-c', '4K', '--output', 'json', temp('images/image.vhdx')]);
    assert.equal(JSON.parse(stdout.toString()).imageSizeBytes, (await stat(temp('out.qcow2'))).size, stderr);
  });

  function assertRefused({ code, stdout, stderr }: CommandResult, message: RegExp): void {
    assert.match(stderr, /^disklift: [^\n]+\n$/, 'one line');
    assert.match(stderr, message);
    assert.deepEqual([code !== 0, stdout.length], [true, 0]);
  }

  it('names the container image that has QEMU if QEMU is not installed', async () => {
    await qemuImg(['convert', '-c', '-f', 'raw', '-O', 'qcow2', disk, 'image.qcow2']);
    const result = await disklift(['stream', '-f', 'qcow2', temp('images/image.qcow2')], { env: { PATH: temp('nothing') } });
    assertRefused(result, /image\.qcow2: .* neither is installed; the image disklift-formats has one/);
  });

  it('needs no QEMU for qcow2 without compression or encryption', async () => {
    await qemuImg(['convert', '-f', 'raw', '-O', 'qcow2', disk, 'base.qcow2']);
    await qemuImg(['create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'image.qcow2']);
    const line = diskliftLine(['stream', '-f', 'qcow2', temp('images/image.qcow2')]);
    const { code, stderr } = await runShell(`PATH='${temp('nothing')}' ${line} > '${temp('out.qcow2')}'`);
    assert.deepEqual([code, stderr], [0, '']);
    await assertImageOf(temp('out.qcow2'), disk);
  });

  it('gives no byte of a file outside the volume, in whichever way an image names it', async () => {
    await createDisk(temp('secret.raw'), MIB, [{ offsetBytes: 0, lengthBytes: MIB, content: 'random' }]);
    await qemuImg(['create', '-q', '-f', 'qcow2', '-u', '-b', temp('secret.raw'), '-F', 'raw', 'backing.qcow2', '1M']);
    await qemuImg(['create', '-q', '-f', 'qcow2', '-u', '-b', '../secret.raw', '-F', 'raw', 'up.qcow2', '1M']);
    const json = `json:{"driver":"raw","file":{"driver":"file","filename":"${temp('secret.raw')}"}}`;
    await qemuImg(['create', '-q', '-f', 'qcow2', '-u', '-b', json, '-F', 'raw', 'json.qcow2', '1M']);
    await qemuImg(['create', '-q', '-f', 'qcow2', '-o', 'data_file=data.raw', 'data.qcow2', '1M']);
    const withData = await readFile(temp('images/data.qcow2'));
    // As many bytes as `data.raw` has.
    await copyFile(temp('secret.raw'), temp('s.raw'));
    withData.write('../s.raw', withData.indexOf('data.raw'));
    await writeFile(temp('images/data.qcow2'), withData);
    const descriptor = (line: string) =>
      `# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType="monolithicFlat"\n${line}\n`;
    await writeFile(temp('images/flat.vmdk'), descriptor(`RW 2048 FLAT "${temp('secret.raw')}" 0`));
    await writeFile(temp('images/device.vmdk'), descriptor('RW 2048 FLAT "/dev/zero" 0'));
    for (const [name, format] of [
      ...['backing', 'up', 'json', 'data'].map((image) => [`${image}.qcow2`, 'qcow2'] as const),
      ...['flat', 'device'].map((image) => [`${image}.vmdk`, 'vmdk'] as const),
    ])
      assertRefused(
        await disklift(['stream', '-f', format, temp(`images/${name}`)]),
        /absolute path|leaves the volume|no file on the volume/,
      );
  });

  it('gives no byte of a file that the descriptor within a sparse VMDK names', async () => {
    await createDisk(temp('secret.raw'), MIB, [{ offsetBytes: 0, lengthBytes: MIB, content: 'random' }]);
    await qemuImg(['create', '-q', '-f', 'vmdk', 'image.vmdk', '1M']);
    const image = await readFile(temp('images/image.vmdk'));
    const at = image.indexOf('RW 2048 SPARSE');
    image.write(`RW 2048 FLAT "${temp('secret.raw')}" 0\n`.padEnd(200, '\n'), at);
    await writeFile(temp('images/image.vmdk'), image);
    assertRefused(await disklift(['stream', '-f', 'vmdk', temp('images/image.vmdk')]), /image\.vmdk/);
    // Without a capacity QEMU uses the descriptor alone.
    image.writeBigUInt64LE(0n, 12);
    await writeFile(temp('images/image.vmdk'), image);
    assertRefused(await disklift(['stream', '-f', 'vmdk', temp('images/image.vmdk')]), /image\.vmdk/);
  });

  it('is refused while QEMU writes to it', async () => {
    await qemuImg(['convert', '-f', 'raw', '-O', 'qcow2', disk, 'image.qcow2']);
    await using _writer = await openForWriting(temp('images/image.qcow2'), 'qcow2');
    assertRefused(await disklift(['stream', '-f', 'qcow2', temp('images/image.qcow2')]), /image\.qcow2: is in use by qemu-io \(pid \d+\)/);
  });

  it('refuses a truncated image', async () => {
    await qemuImg(['convert', '-f', 'raw', '-O', 'vdi', disk, 'image.vdi']);
    await truncate(temp('images/image.vdi'), 4 * MIB);
    assertRefused(
      await disklift(['stream', '-f', 'vdi', temp('images/image.vdi')]),
      /image\.vdi: is cut short or damaged: its block map at byte \d+ leads to byte \d+, and the file ends at 4194304; copy it once more\n$/,
    );
    await qemuImg(['convert', '-f', 'raw', '-O', 'vmdk', '-o', 'subformat=monolithicFlat', disk, 'image.vmdk']);
    await truncate(temp('images/image-flat.vmdk'), 10 * MIB);
    assertRefused(await disklift(['stream', '-f', 'vmdk', temp('images/image.vmdk')]), /is not as long as it says/);
  });

  describe('on a volume', () => {
    it('is exported in its own format, after its use has ended, and cannot be written to meanwhile', async () => {
      await qemuImg(['convert', '-f', 'raw', '-O', 'qcow2', disk, 'image.qcow2']);
      const tries: { isWritten: boolean; words: string }[] = [];
      await using sink = await startHttpSink({
        async onRequest(request, response) {
          tries.push(await tryToWrite(temp('images/image.qcow2'), 'qcow2'));
          await sink.take(request);
          response.writeHead(201).end();
        },
      });
      await using sidecar = await startSidecar({ requests: temp('requests'), volumes: [`claim=${temp('images')}`] });
      const writer = await openForWriting(temp('images/image.qcow2'), 'qcow2');
      const source = { persistentVolumeClaim: { claimName: 'claim' }, inUse: 'Wait' };
      await apply(temp('requests'), diskExport('e', { http: { url: `${sink.url}/e` } }, { source, backoffLimit: 0 }));
      await waitForStatus(temp('requests'), 'e', ({ message }) => message?.includes(`qemu-io (pid ${writer.process.pid})`) ?? false);
      await writer.quit();
      const status = await waitForStatus(temp('requests'), 'e');
      assert.deepEqual(
        [status.phase, status.disks?.[0]?.format, status.attempts],
        ['Succeeded', 'QCOW2', 1],
        JSON.stringify(sidecar.log()),
      );
      assert.match(tries[0]?.words ?? '', /Failed to get "write" lock/);
      await writeFile(temp('arrived.qcow2'), sink.complete.get('/e') ?? assert.fail('nothing arrived'));
      await assertImageOf(temp('arrived.qcow2'), disk);
    });
  });

  describe('on a block device', () => {
    before(function () {
      return requireLoopDevices(this);
    });

    it('is read as qcow2 only if stated, past the page cache, and must refer to no other file', async () => {
      await qemuImg(['convert', '-f', 'raw', '-O', 'qcow2', disk, 'image.qcow2']);
      await truncate(temp('images/image.qcow2'), 32 * MIB);
      {
        await using loop = await attachLoopDevice(temp('images/image.qcow2'));
        const { code, stderr } = await runShell(`${diskliftLine(['stream', '-f', 'qcow2', loop.path])} > '${temp('out.qcow2')}'`);
        assert.deepEqual([code, stderr], [0, '']);
        await assertImageOf(temp('out.qcow2'), disk);
      }
      await qemuImg(['rebase', '-u', '-f', 'qcow2', '-b', 'null', '-F', 'raw', 'image.qcow2']);
      await using loop = await attachLoopDevice(temp('images/image.qcow2'));
      assertRefused(await disklift(['stream', '-f', 'qcow2', loop.path]), /\/dev\/loop\d+: .*(character device|refers to a file)/);
    });

    it('is raw in a request unless that states a format, even if its guest has written a header', async () => {
      await qemuImg(['convert', '-f', 'raw', '-O', 'qcow2', disk, 'image.qcow2']);
      await truncate(temp('images/image.qcow2'), 32 * MIB);
      await using loop = await attachLoopDevice(temp('images/image.qcow2'));
      await using sink = await startHttpSink();
      const persistentVolumeClaim = { claimName: 'claim' };
      for (const [disks, read] of [
        [undefined, temp('images/image.qcow2')],
        [[{ path: '.', format: 'QCOW2' }], disk],
      ] as const) {
        const source = { persistentVolumeClaim, inUse: 'Allow', ...(disks === undefined ? {} : { disks }) };
        await writeFile(temp('request.yaml'), stringify(diskExport('e', { http: { url: `${sink.url}/{disk}` } }, { source })));
        const { code, stderr } = await disklift(['export', '-f', temp('request.yaml'), '--volume', `claim=${loop.path}`]);
        assert.deepEqual([code, stderr], [0, '']);
        await writeFile(temp('arrived.qcow2'), sink.complete.get('/disk') ?? assert.fail('nothing arrived'));
        await assertImageOf(temp('arrived.qcow2'), read);
      }
    });
  });
});
