import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { parseHeader, type Qcow2Header } from '../../../../src/qcow2/read/parse-header.ts';
import { encodeHeader } from '../../../../src/qcow2/write/header.ts';
import { failsWith } from '../../../helpers/failure.ts';
import { DEFAULT_OPTIONS } from '../../../helpers/image-in-process.ts';
import { runCommand } from '../../../helpers/run-command.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';

describe('parseHeader', () => {
  const temp = useTempDir();

  async function create(...parameters: string[]): Promise<Buffer> {
    const { code, stderr } = await runCommand('qemu-img', ['create', '-q', '-f', 'qcow2', ...parameters]);
    assert.equal(code, 0, `${stderr}`);
    return readFileSync(parameters.find((parameter) => parameter.endsWith('.qcow2')) ?? assert.fail());
  }

  it('reads what this program writes', () => {
    for (const version of [2, 3] as const) {
      const bytes = Buffer.alloc(65_536);
      const fields = {
        virtualSizeBytes: 0x1234567800,
        l1EntryCount: 200,
        l1TableOffset: 0x50000,
        refcountTableOffset: 0x10000,
        refcountTableClusterCount: 3,
      };
      bytes.set(encodeHeader({ ...DEFAULT_OPTIONS, version }, fields));
      const { virtualSizeBytes: sizeBytes, ...tables } = fields;
      const expected: Qcow2Header = {
        version,
        clusterSizeBytes: 65_536,
        sizeBytes,
        encryption: 'none',
        ...tables,
        refcountBits: 16,
        snapshotCount: 0,
        snapshotsOffset: 0,
        isDirty: false,
        isCorrupt: false,
        hasExtendedL2: false,
        compression: 'deflate',
      };
      assert.deepEqual(parseHeader(bytes, 'x'), expected);
    }
  });

  it('reads what qemu-img writes: sizes, features, compression', async () => {
    const header = parseHeader(
      await create('-o', 'cluster_size=16384,extended_l2=on,compression_type=zstd,refcount_bits=8', temp('a.qcow2'), '5G'),
      'a',
    );
    assert.equal(header.sizeBytes, 5 * 2 ** 30);
    assert.equal(header.clusterSizeBytes, 16_384);
    assert.equal(header.refcountBits, 8);
    assert.equal(header.l1EntryCount, (5 * 2 ** 30) / 16_384 / 1024);
    assert.deepEqual([header.hasExtendedL2, header.compression, header.isDirty, header.isCorrupt], [true, 'zstd', false, false]);
    const old = parseHeader(await create('-o', 'compat=0.10,cluster_size=512', temp('b.qcow2'), '1M'), 'b');
    assert.deepEqual([old.version, old.clusterSizeBytes, old.refcountBits], [2, 512, 16]);
    assert.equal(parseHeader(await create('-o', 'cluster_size=2M', temp('c.qcow2'), '1M'), 'c').clusterSizeBytes, 2 ** 21);
  });

  it('reads what they refer to', async () => {
    await runCommand('qemu-img', ['create', '-q', '-f', 'raw', temp('größe.raw'), '1M']);
    const backed = parseHeader(await create('-b', temp('größe.raw'), '-F', 'raw', temp('a.qcow2')), 'a');
    assert.deepEqual(backed.backingFile, { name: temp('größe.raw'), format: 'raw' });
    assert.equal(backed.dataFile, undefined);
    const old = parseHeader(await create('-o', 'compat=0.10', '-u', '-b', 'nbd://host/x', '-F', 'raw', temp('b.qcow2'), '1M'), 'b');
    assert.deepEqual(old.backingFile, { name: 'nbd://host/x', format: 'raw' });
    const unstated = await create('-u', '-b', 'json:{"driver":"file"}', '-F', 'raw', temp('c.qcow2'), '1M');
    unstated.writeUInt32BE(0x77777777, unstated.indexOf(Buffer.from('e2792aca', 'hex')));
    assert.deepEqual(parseHeader(unstated, 'c').backingFile, { name: 'json:{"driver":"file"}' });
    const external = await create('-o', `data_file=${temp('d.raw')},data_file_raw=on`, temp('d.qcow2'), '1M');
    assert.deepEqual(parseHeader(external, 'd').dataFile, { name: temp('d.raw'), isRaw: true });
    external.writeUInt32BE(0x77777777, external.indexOf('DATA'));
    assert.deepEqual(parseHeader(external, 'd').dataFile, { isRaw: true });
  });

  describe('refuses', () => {
    const u32 = (at: number, value: number) => (bytes: Buffer) => bytes.writeUInt32BE(value, at);
    const u64 = (at: number, value: bigint) => (bytes: Buffer) => bytes.writeBigUInt64BE(value, at);
    /** A name of the given length at 600, where extensions end. */
    const backing = (offset: bigint, length: number) => (bytes: Buffer) => {
      bytes.writeBigUInt64BE(offset, 8);
      bytes.writeUInt32BE(length, 16);
    };
    const both =
      (...changes: ((bytes: Buffer) => void)[]) =>
      (bytes: Buffer) => {
        for (const change of changes) change(bytes);
      };
    const extension = (type: number, data: string, at = 112) =>
      both(u32(at, type), u32(at + 4, data.length), (bytes) => bytes.write(data, at + 8, 'latin1'));

    for (const [sentence, change, message, qemu] of [
      ['another magic number', u32(0, 0x514649fc), /not a qcow2/, /./],
      ['version 1', u32(4, 1), /version 1/, /version/],
      ['version 4', u32(4, 4), /version 4/, /version/],
      ['clusters of 256 bytes', u32(20, 8), /cluster size/, /cluster size/i],
      ['clusters of 4 MiB', u32(20, 22), /cluster size/, /cluster size/i],
      ['clusters of any size', u32(20, 0xffffffff), /cluster size/, /cluster size/i],
      ['a short header', u32(100, 103), /103 bytes/, /header too short/],
      ['a header of more than a cluster', u32(100, 65_537), /65537 bytes/, /exceeds cluster size/],
      ['encryption of an unknown kind', u32(32, 3), /encrypted/, /encryption/],
      ['LUKS without its extension', u32(32, 2), /encryption/, undefined],
      ['an unknown feature', u32(76, 1 << 5), /features/, /feature/],
      ['an unknown feature of the upper half', u32(72, 1), /features/, /feature/],
      ['extended L2 entries with small clusters', both(u32(20, 13), u32(76, 16)), /too small/, /Unsupported subcluster size/],
      ['refcounts of 128 bits', u32(96, 7), /refcounts of 2\^7/, /entry width too large/],
      ['refcounts of any width', u32(96, 0xffffffff), /refcounts/, /entry width too large/],
      ['zstd that is not among the features', u32(104, 1 << 24), /compression type 1/, /[Cc]ompression type/],
      ['an unknown compression type', both(u32(104, 2 << 24), u32(76, 8)), /compression type 2/, /compression type/],
      ['an L1 table that is too small', u32(36, 0), /cannot have 0 entries/, /L1 table is too small/],
      ['an L1 table that is too large', u32(36, 0x400001), /L1 table/, /L1 table too large/],
      ['an L1 table between clusters', u64(40, 0x30008n), /table at/, /L1 table offset/],
      ['a refcount table between clusters', u64(48, 0x10200n), /table at/, /[Rr]ef.*count table offset/],
      ['no refcount table', u32(56, 0), /refcount table/, /does not contain a reference count table/],
      ['a refcount table that is too large', u32(56, 129), /refcount table/, /[Rr]eference count table too large/],
      ['too many snapshots', u32(60, 65_537), /65537 snapshots/, /[Ss]napshot table too large/],
      ['a disk that is too large', u64(24, 2n ** 53n), /number at byte 24/, /too (big|small|large)/],
      ['a backing file name outside of the cluster', backing(65_537n, 1), /outside of its first cluster/, /backing file offset/],
      ['a backing file name that leaves the cluster', backing(65_536n - 9n, 10), /too long/, /name too long/],
      ['a backing file name of 1024 bytes', backing(600n, 1024), /too long/, /name too long/],
      ['a backing file name with a NUL', backing(600n, 2), /no text/, undefined],
      ['an extension that leaves the cluster', u32(116, 65_536 - 119), /extension at byte 112/, /extension too large/],
      ['an extension that reaches into the name', both(backing(600n, 2), u32(116, 600 - 119)), /extension at byte 112/, /extension/],
      ['a format name of 16 bytes', extension(0xe2792aca, 'x'.repeat(16)), /format .* too long/, /too large/],
      [
        'two formats',
        both(extension(0xe2792aca, 'qcow2'), extension(0xe2792aca, 'raw', 128), u32(144, 0)),
        /two header extensions/,
        undefined,
      ],
    ] as const)
      it(sentence, async () => {
        const path = temp('a.qcow2');
        const bytes = await create(path, '1M');
        change(bytes);
        assert.throws(() => parseHeader(bytes, 'disk.qcow2'), failsWith('FormatUnsupported', message));
        assert.throws(() => parseHeader(bytes, 'disk.qcow2'), /^DiskliftError: disk\.qcow2: /);
        if (qemu === undefined) return;
        writeFileSync(path, bytes);
        const judged = await runCommand('qemu-img', ['info', '-f', 'qcow2', path]);
        assert.notEqual(judged.code, 0);
        assert.match(`${judged.stderr}`, qemu);
      });

    it('a header that is cut before its extensions end', async () => {
      const bytes = await create('-o', 'cluster_size=512', temp('a.qcow2'), '1M');
      const extensionsEnd = 112 + 4; // QEMU writes no table of feature names into so small a cluster
      for (let length = 0; length < extensionsEnd; length += 1)
        assert.throws(() => parseHeader(bytes.subarray(0, length), 'x'), failsWith('FormatUnsupported', /ends where its header goes on/));
      assert.deepEqual(parseHeader(bytes.subarray(0, extensionsEnd), 'x'), parseHeader(bytes, 'x'));
    });
  });
});
