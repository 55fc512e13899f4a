import assert from 'node:assert/strict';
import fs from 'node:fs/promises';
import path from 'node:path';
import { createImage } from '../../helpers/create-image.ts';
import { NEVER } from '../../helpers/image-in-process.ts';
import { openByUs, readDisk } from '../../helpers/open-image.ts';
import { openForWriting, tryToWrite } from '../../helpers/qemu-io.ts';
import { runCommand } from '../../helpers/run-command.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const CLUSTER = 64 * KIB;

/** Bytes of the header. */
const INCOMPATIBLE_FEATURES_LOW = 79;
const DISK_SIZE = 24;
const L1_TABLE_OFFSET = 40;

async function succeed(command: string, args: readonly string[]): Promise<void> {
  const { code, stdout, stderr } = await runCommand(command, args);
  assert.equal(code, 0, `${command} ${args.join(' ')}: ${stdout}${stderr}`);
}

async function writeWith(imagePath: string, ...commands: string[]): Promise<void> {
  await succeed('qemu-io', ['-f', 'qcow2', ...commands.flatMap((command) => ['-c', command]), imagePath]);
}

async function patch(filePath: string, at: number, change: (bytes: Buffer) => void): Promise<void> {
  await using file = await fs.open(filePath, 'r+');
  const bytes = Buffer.alloc(8);
  await file.read(bytes, 0, 8, at);
  change(bytes);
  await file.write(bytes, 0, 8, at);
}

async function wordAt(filePath: string, at: number): Promise<number> {
  await using file = await fs.open(filePath);
  const { buffer } = await file.read(Buffer.alloc(8), 0, 8, at);
  return Number(buffer.readBigUInt64BE() & 0x00fffffffffffe00n);
}

describe('a plain disk in qcow2 images', () => {
  const temp = useTempDir();
  const image = () => temp('disk.qcow2');

  async function isPlain(): Promise<boolean> {
    await using opened = await openByUs(image());
    return opened.disk !== undefined;
  }

  describe('is left to QEMU', () => {
    it('with a compressed cluster', async () => {
      await createImage(image(), { format: 'qcow2', size: '8M' });
      await writeWith(image(), 'write -P 3 0 4M');
      assert.equal(await isPlain(), true);
      await writeWith(image(), 'write -c -P 5 5M 64k');
      assert.equal(await isPlain(), false);
    });

    it('with a compressed cluster in its backing file', async () => {
      await createImage(temp('base.qcow2'), { format: 'qcow2', size: '8M' });
      await writeWith(temp('base.qcow2'), 'write -c -P 5 5M 64k');
      await createImage(image(), { format: 'qcow2', backing: { name: 'base.qcow2', format: 'qcow2' } });
      assert.equal(await isPlain(), false);
    });

    it('with extended L2 entries', async () => {
      await createImage(image(), { format: 'qcow2', options: ['extended_l2=on'], size: '8M' });
      assert.equal(await isPlain(), false);
    });

    it('when it is dirty', async () => {
      await createImage(image(), { format: 'qcow2', size: '8M' });
      await patch(image(), INCOMPATIBLE_FEATURES_LOW, (bytes) => bytes.writeUInt8(1));
      assert.equal(await isPlain(), false);
    });

    it('in front of another format', async () => {
      await createImage(temp('base.vdi'), { format: 'vdi', size: '8M' });
      await createImage(image(), { format: 'qcow2', backing: { name: 'base.vdi', format: 'vdi' } });
      assert.equal(await isPlain(), false);
    });
  });

  it('may state the other kind of compression if no cluster is compressed', async () => {
    await createImage(image(), { format: 'qcow2', options: ['compression_type=zstd'], size: '8M' });
    assert.equal(await isPlain(), true);
  });

  it('reports the holes of its file', async () => {
    await createImage(image(), { format: 'qcow2', options: ['preallocation=metadata'], size: '64M' });
    await writeWith(image(), 'write -P 3 20M 2M');
    await using opened = await openByUs(image());
    let dataBytes = 0;
    for await (const { kind, length } of opened.disk?.extents(NEVER) ?? []) if (kind === 'data') dataBytes += length;
    assert.ok(dataBytes >= 2 * MIB && dataBytes < 8 * MIB, `${dataBytes} bytes of data`);
  });

  it('has nothing behind the end of the disk, where the state of a VM may be', async () => {
    await createImage(image(), { format: 'qcow2', size: '1G' });
    await writeWith(image(), 'write -P 3 0 64k', 'write -P 4 100M 64k', 'write -P 5 600M 64k');
    const l1Offset = await wordAt(image(), L1_TABLE_OFFSET);
    const firstTable = await wordAt(image(), l1Offset);
    await patch(image(), DISK_SIZE, (bytes) => bytes.writeBigUInt64BE(BigInt(64 * MIB)));
    await patch(image(), firstTable + ((100 * MIB) / CLUSTER) * 8, (bytes) => bytes.fill(0xff));
    await patch(image(), l1Offset + 8, (bytes) => bytes.fill(0xff));
    await using opened = await openByUs(image());
    assert.equal(opened.disk?.sizeBytes, 64 * MIB);
    const content = await readDisk(opened.disk);
    assert.ok(content.subarray(0, CLUSTER).every((byte) => byte === 3));
    assert.ok(content.subarray(CLUSTER).every((byte) => byte === 0));
  });

  it('may have one cluster of its file in two places', async () => {
    const { secondEntry, firstData } = await twoClusters();
    await patch(image(), secondEntry, (bytes) => bytes.writeBigUInt64BE(BigInt(firstData)));
    await using opened = await openByUs(image());
    assert.ok(opened.disk !== undefined);
    assert.ok((await readDisk(opened.disk)).subarray(0, 2 * CLUSTER).every((byte) => byte === 3));
  });

  /** An image of 8 MiB whose first two clusters hold data. */
  async function twoClusters(options: readonly string[] = []) {
    await createImage(image(), { format: 'qcow2', options, size: '8M' });
    await writeWith(image(), 'write -P 3 0 64k', 'write -P 4 64k 64k');
    const l1Entry = await wordAt(image(), L1_TABLE_OFFSET);
    const table = await wordAt(image(), l1Entry);
    return { l1Entry, table, secondEntry: table + 8, firstData: await wordAt(image(), table), lastData: await wordAt(image(), table + 8) };
  }

  describe('is refused with wrong tables:', () => {
    const word = (value: bigint) => (bytes: Buffer) => void bytes.writeBigUInt64BE(value);
    type Facts = Awaited<ReturnType<typeof twoClusters>>;
    const cases: { name: string; options?: string[]; at(facts: Facts): number; change(facts: Facts): (bytes: Buffer) => void }[] = [
      {
        name: 'an L2 entry within a cluster',
        at: ({ secondEntry }) => secondEntry,
        change: ({ firstData }) => word(BigInt(firstData + 512)),
      },
      { name: 'an L2 entry behind the end of the file', at: ({ secondEntry }) => secondEntry, change: () => word(1n << 40n) },
      { name: 'an L2 entry past all numbers', at: ({ secondEntry }) => secondEntry, change: () => word(0x80ff_ffff_ffff_0000n) },
      {
        name: 'an L2 entry with reserved bits',
        at: ({ secondEntry }) => secondEntry,
        change: ({ lastData }) => word(BigInt(lastData + 4)),
      },
      {
        name: 'an L2 entry with high reserved bits',
        at: ({ secondEntry }) => secondEntry,
        change: ({ lastData }) => word(BigInt(lastData) | (1n << 57n)),
      },
      { name: 'data in the L2 table', at: ({ secondEntry }) => secondEntry, change: ({ table }) => word(BigInt(table)) },
      { name: 'data in the L1 table', at: ({ secondEntry }) => secondEntry, change: ({ l1Entry }) => word(BigInt(l1Entry)) },
      { name: 'data in the refcount table', at: ({ secondEntry }) => secondEntry, change: () => word(BigInt(CLUSTER)) },
      { name: 'zeros in version 2', options: ['compat=0.10'], at: ({ secondEntry }) => secondEntry, change: () => word(1n) },
      { name: 'an L1 entry within a cluster', at: ({ l1Entry }) => l1Entry, change: ({ table }) => word(BigInt(table + 512)) },
      { name: 'an L1 entry behind the end of the file', at: ({ l1Entry }) => l1Entry, change: () => word(1n << 40n) },
      { name: 'an L1 entry with reserved bits', at: ({ l1Entry }) => l1Entry, change: ({ table }) => word(BigInt(table) | 1n) },
      { name: 'an L2 table in the header', at: ({ l1Entry }) => l1Entry, change: ({ l1Entry }) => word(BigInt(l1Entry)) },
      { name: 'an L1 table in the header', at: () => L1_TABLE_OFFSET, change: () => word(0n) },
      { name: 'an L1 table behind the end of the file', at: () => L1_TABLE_OFFSET, change: () => word(1n << 40n) },
    ];
    for (const { name, options, at, change } of cases)
      it(name, async () => {
        const facts = await twoClusters(options);
        await patch(image(), at(facts), change(facts));
        await assert.rejects(openByUs(image()), (error: Error & { code?: string }) => {
          assert.equal(error.code, 'SourceReadError', error.stack);
          assert.ok(error.message.startsWith(`${image()}: `) && /offset \d+/.test(error.message), error.message);
          return true;
        });
      });

    it('one L2 table for two parts of the disk', async () => {
      await createImage(image(), { format: 'qcow2', size: '1G' });
      await writeWith(image(), 'write -P 3 0 64k', 'write -P 4 600M 64k');
      const l1Offset = await wordAt(image(), L1_TABLE_OFFSET);
      const first = await wordAt(image(), l1Offset);
      await patch(image(), l1Offset + 8, word(BigInt(first)));
      await assert.rejects(openByUs(image()), { code: 'SourceReadError', message: /two parts of the disk/ });
    });

    it('a file that lacks its last sector, or the last byte of it', async () => {
      const { lastData } = await twoClusters();
      for (const missing of [1, 512]) {
        await fs.truncate(image(), lastData + CLUSTER - missing);
        await assert.rejects(openByUs(image()), { code: 'SourceReadError', message: /is cut short or damaged: .* in a file that ends at/ });
      }
    });

    it('an external data file with clusters in other places', async () => {
      await createImage(image(), { format: 'qcow2', options: ['data_file=disk.data'], size: '8M' });
      const { code } = await runCommand('qemu-io', ['-f', 'qcow2', '-c', 'write -P 3 0 128k', 'disk.qcow2'], {
        cwd: path.dirname(image()),
      });
      assert.equal(code, 0);
      assert.equal(await isPlain(), true);
      const table = await wordAt(image(), await wordAt(image(), L1_TABLE_OFFSET));
      await patch(image(), table + 8, word((1n << 63n) | BigInt(2 * CLUSTER)));
      await assert.rejects(openByUs(image()), { code: 'SourceReadError', message: /of the data file/ });
    });
  });

  it('has changed when one of its files was written to since its tables were read', async () => {
    await createImage(temp('base.qcow2'), { format: 'qcow2', size: '8M' });
    await createImage(image(), { format: 'qcow2', backing: { name: 'base.qcow2', format: 'qcow2' } });
    await using opened = await openByUs(image());
    const before = await opened.disk?.identity();
    assert.deepEqual(await opened.disk?.identity(), before);
    await writeWith(temp('base.qcow2'), 'write -P 3 0 64k');
    await assert.rejects(opened.disk?.identity() ?? Promise.resolve(), { code: 'SourceChanged', message: /base\.qcow2: .* has changed/ });
  });

  it('is refused while QEMU writes to it, and keeps QEMU from writing', async () => {
    await createImage(image(), { format: 'qcow2', size: '8M' });
    {
      await using _writer = await openForWriting(image(), 'qcow2');
      await assert.rejects(openByUs(image(), { inUse: 'fail' }), { code: 'SourceInUse' });
    }
    await using _opened = await openByUs(image(), { inUse: 'fail' });
    assert.match((await tryToWrite(image(), 'qcow2')).words, /Failed to get "write" lock/);
  });

  it('reads the rest of a file that does not end with a sector as zeros', async () => {
    await fs.writeFile(temp('base.raw'), Buffer.alloc(1000, 7));
    await createImage(image(), { format: 'qcow2', size: '4k', backing: { name: 'base.raw', format: 'raw' } });
    await using opened = await openByUs(image());
    assert.ok(opened.disk !== undefined);
    assert.deepEqual(await readDisk(opened.disk), Buffer.concat([Buffer.alloc(1000, 7), Buffer.alloc(3096)]));
  });
});
