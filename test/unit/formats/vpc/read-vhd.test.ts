/**
 * VHDs whose size is no whole number of cylinders, by creators whose disks QEMU before version 10 truncates to whole
 * cylinders.
 */

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { createImage } from '../../../helpers/create-image.ts';
import { failsWith } from '../../../helpers/failure.ts';
import { openAsRequested, openByQemu, readDisk } from '../../../helpers/open-image.ts';
import { openNames } from '../../../helpers/opened-paths.ts';
import { withPath } from '../../../helpers/qemu-programs.ts';
import { runCommand } from '../../../helpers/run-command.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';
import { dynamicVhd, fixedVhd, vhdFooter } from '../../../helpers/vhd.ts';

const MIB = 2 ** 20;
/** No whole number of cylinders. */
const DISK_SIZE_BYTES = 6 * MIB;

/** Azure, VirtualBox, hcsshim, Xen Orchestra, Virtual PC, and some in the list of every QEMU. */
const CREATORS = ['wa', 'vbox', 'rust', 'xo  ', 'vpc ', 'pvhd', 'win ', 'qem2', 'tap', 'CTXS'];

describe('a VHD', function () {
  this.timeout(20_000);
  const temp = useTempDir();

  /** Random at its beginning, in its middle and at its end. */
  function makeContent(): Buffer {
    const content = Buffer.alloc(DISK_SIZE_BYTES);
    for (const [offset, length] of [
      [0, 70_000],
      [3 * MIB, 5000],
      [content.length - 4096, 4096],
    ] as const)
      randomBytes(length).copy(content, offset);
    return content;
  }

  async function read(name: string, format: 'vpc' | 'qcow2' = 'vpc', warnings: string[] = []): Promise<Buffer> {
    const disk = await openAsRequested(temp(name), format, (message) => warnings.push(message));
    try {
      return await readDisk(disk);
    } finally {
      await disk.dispose();
    }
  }

  async function assertHolds(file: Buffer, content: Buffer): Promise<void> {
    writeFileSync(temp('a.vhd'), file);
    // QEMU cannot be started with this PATH.
    await withPath(temp('nothing'), async () => assert.ok((await read('a.vhd')).equals(content)));
  }

  for (const creator of CREATORS)
    it(`ends at its Current Size, by creator ${JSON.stringify(creator)}`, async () => {
      const content = makeContent();
      await assertHolds(fixedVhd(content, { creator }), content);
      await assertHolds(dynamicVhd(content, { creator }), content);
    });

  it('keeps its whole disk with an empty geometry and with the largest one', async () => {
    const content = makeContent();
    for (const geometry of [
      [0, 0, 0],
      [65_535, 16, 255],
    ] as const)
      await assertHolds(fixedVhd(content, { geometry }), content);
  });

  it('keeps its whole disk with unusual blocks and tables', async () => {
    const content = makeContent();
    await assertHolds(dynamicVhd(content, { blockSizeBytes: 512 * 1024 }), content);
    await assertHolds(dynamicVhd(content, { blockSizeBytes: 16 * MIB }), content);
    await assertHolds(dynamicVhd(content, { blockSizeBytes: 16 * MIB, cutsLastBlock: true }), content);
    await assertHolds(dynamicVhd(content, { entryCount: 1000 }), content);
    const empty = Buffer.alloc(5 * MIB);
    await assertHolds(dynamicVhd(empty), empty);
  });

  it('behind a qcow2 image keeps its whole disk, or is refused', async () => {
    const content = makeContent();
    const written = Buffer.from(content).fill(0x61, MIB, 2 * MIB);
    const disputed = dynamicVhd(content);
    for (const file of [fixedVhd(content), dynamicVhd(content, { creator: 'win ' }), disputed]) {
      writeFileSync(temp('base.vhd'), file);
      // disklift reads the first image itself; QEMU reads images with extended L2 entries.
      for (const options of [['cluster_size=64k'], ['extended_l2=on']]) {
        await createImage(temp('a.qcow2'), { format: 'qcow2', options, size: '6M', backing: { name: 'base.vhd', format: 'vpc' } });
        const { code } = await runCommand('qemu-io', ['-f', 'qcow2', '-c', 'write -P 0x61 1M 1M', temp('a.qcow2')]);
        assert.equal(code, 0);
        if (file === disputed && options.includes('extended_l2=on'))
          await assert.rejects(
            read('a.qcow2', 'qcow2'),
            failsWith('FormatUnsupported', /base\.vhd: is a dynamic VHD behind another image/),
          );
        else assert.ok((await read('a.qcow2', 'qcow2')).equals(written), `${options}`);
      }
    }
  });

  it('is refused when QEMU serves another size than its footer states', async () => {
    // Every version of QEMU uses the geometry for Virtual PC's disks.
    writeFileSync(temp('a.vhd'), dynamicVhd(makeContent(), { creator: 'vpc ' }));
    await assert.rejects(
      openByQemu(temp('a.vhd'), { format: 'vpc' }),
      failsWith('FormatUnsupported', /a\.vhd: states a disk of 6291456 bytes, and QEMU serves 6266880 of it as vpc/),
    );
    assert.deepEqual(await openNames(temp('')), []);
  });

  it('that does not end with its footer is read by the copy at its start, with a warning', async () => {
    const content = makeContent();
    for (const tail of [Buffer.alloc(0), Buffer.alloc(4096)]) {
      const warnings: string[] = [];
      writeFileSync(temp('a.vhd'), Buffer.concat([dynamicVhd(content, { hasFooter: false }), tail]));
      assert.ok((await read('a.vhd', 'vpc', warnings)).equals(content));
      assert.match(warnings.join(), /a\.vhd: does not end with its VHD footer, so the copy in its first sector is used/);
    }
  });

  it('that has more bytes before its footer than its size gives a warning', async () => {
    const content = makeContent();
    const warnings: string[] = [];
    writeFileSync(temp('a.vhd'), fixedVhd(content, { diskSizeBytes: 4 * MIB }));
    assert.ok((await read('a.vhd', 'vpc', warnings)).equals(content.subarray(0, 4 * MIB)));
    assert.match(warnings.join(), /a\.vhd: .*a disk of 4194304 bytes, and 2097152 more lie in front of the footer/);
  });

  for (const [fault, build, message] of [
    ['is longer than its file', (content: Buffer) => fixedVhd(content, { diskSizeBytes: content.length + 512 }), /is cut short/],
    [
      'has two footers of two sizes',
      (content: Buffer) =>
        Buffer.concat([
          dynamicVhd(content, { hasFooter: false }),
          vhdFooter({ diskSizeBytes: 2 * content.length, type: 'dynamic', headerOffset: 512 }),
        ]),
      /its first sector states a disk of 6291456 bytes and its last one 12582912/,
    ],
    [
      'has a footer in which the size was damaged',
      (content: Buffer) => withSize(fixedVhd(content), content.length, MIB),
      /its VHD footer is damaged: its bytes/,
    ],
    [
      'has a copy of its footer in which the size was damaged',
      (content: Buffer) => withSize(dynamicVhd(content, { hasFooter: false }), 0, MIB),
      /its VHD footer is damaged: its bytes/,
    ],
    ['has a table that is too short', (content: Buffer) => dynamicVhd(content, { entryCount: 2 }), /2 entries has no room for its disk/],
    [
      'has a block where its table is',
      (content: Buffer) => withEntry(dynamicVhd(content), 0, 1),
      /is damaged: .* where the table itself is/,
    ],
    ['has a block behind its end', (content: Buffer) => withEntry(dynamicVhd(content), 2, 100_000), /is cut short or damaged/],
    ['has lost a block', (content: Buffer) => dynamicVhd(content).subarray(0, 3 * MIB), /is cut short or damaged/],
    ['has blocks of no size', (content: Buffer) => withBlockSize(dynamicVhd(content), 0), /no VHD has blocks of 0 bytes/],
    ['has blocks of 3 MiB', (content: Buffer) => withBlockSize(dynamicVhd(content), 3 * MIB), /no VHD has blocks of 3145728 bytes/],
    ['has no header', (content: Buffer) => dynamicVhd(content).fill(0, 512, 520), /no valid VHD header of a dynamic disk/],
  ] as const)
    it(`that ${fault} is refused`, async () => {
      writeFileSync(temp('a.vhd'), build(makeContent()));
      await assert.rejects(
        openAsRequested(temp('a.vhd'), 'vpc'),
        (error) => failsWith('FormatUnsupported', message)(error) || failsWith('SourceReadError', message)(error),
      );
    });

  const withEntry = (file: Buffer, index: number, sector: number) => {
    file.writeUInt32BE(sector, 512 + 1024 + 4 * index);
    return file;
  };
  const withSize = (file: Buffer, footerAt: number, sizeBytes: number) => {
    file.writeBigUInt64BE(BigInt(sizeBytes), footerAt + 48);
    return file;
  };
  const withBlockSize = (file: Buffer, sizeBytes: number) => {
    file.writeUInt32BE(sizeBytes, 512 + 32);
    return file;
  };
});
