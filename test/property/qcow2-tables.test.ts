import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { DiskliftError } from '../../src/common/errors.ts';
import type { ForeignImage } from '../../src/qcow2/read/foreign-image.ts';
import { createOverlayBuilder, type GuestMapping } from '../../src/qcow2/read/guest-mapping.ts';
import { createMetadataPlaces, parseL1Table, placeOfL1Table } from '../../src/qcow2/read/l1-table.ts';
import { parseHeader } from '../../src/qcow2/read/parse-header.ts';
import { createTruncationCheck } from '../../src/qcow2/read/truncation-check.ts';
import { createImage } from '../helpers/create-image.ts';
import { openByUs, readDisk } from '../helpers/open-image.ts';
import { runCommand } from '../helpers/run-command.ts';
import { createRandom, SEED, SEED_TEXT } from '../helpers/seed.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const TIME_BOX_MS = 8000;
const JUDGED_BY_QEMU = 40;
const CLUSTER = 1024;

/** Offsets of the tables' bytes in a file: the L1 table, and all L2 tables. */
function tablesOf(bytes: Buffer, image: ForeignImage): { start: number; length: number }[] {
  const { offset, length } = placeOfL1Table(image);
  const l2Offsets = parseL1Table(bytes.subarray(offset, offset + length), image);
  return [{ start: offset, length }, ...[...l2Offsets].filter((at) => at > 0).map((start) => ({ start, length: CLUSTER }))];
}

/** Changes a few entries of the tables: one bit, another entry, any word, a small number. */
function mutate(bytes: Buffer, tables: readonly { start: number; length: number }[], random: () => number): void {
  const whole = (below: number) => Math.floor(random() * below);
  const place = () => {
    const { start, length } = tables[whole(3) === 0 ? 0 : whole(tables.length)] as { start: number; length: number };
    return start + 8 * whole(length / 8);
  };
  for (let count = 1 + whole(4); count > 0; count -= 1) {
    const at = place();
    const word = bytes.readBigUInt64BE(at);
    const changed = [
      () => word ^ (1n << BigInt(whole(64))),
      () => bytes.readBigUInt64BE(place()),
      () => BigInt(whole(2 ** 32)) * 2n ** 32n + BigInt(whole(2 ** 32)),
      () => BigInt(CLUSTER * whole(bytes.length / CLUSTER + 3)),
    ][whole(4)] as () => bigint;
    bytes.writeBigUInt64BE(changed(), at);
  }
}

function mappingOf(bytes: Buffer, image: ForeignImage): GuestMapping | undefined {
  const { offset, length } = placeOfL1Table(image);
  const l2Offsets = parseL1Table(bytes.subarray(offset, offset + length), image);
  const builder = createOverlayBuilder({ image, metadata: createMetadataPlaces(image, l2Offsets), dataFile: 0 });
  for (const [index, at] of l2Offsets.entries())
    if (at !== 0 && !builder.addTable(bytes.subarray(at, at + CLUSTER), { index, offset: at })) return undefined;
  return builder.build();
}

describe('qcow2 tables with mistakes', () => {
  const temp = useTempDir();

  async function original(): Promise<{ bytes: Buffer; image: ForeignImage }> {
    const path = temp('original.qcow2');
    await createImage(path, { format: 'qcow2', options: [`cluster_size=${CLUSTER}`], size: '500k' });
    const commands = [
      'write -P 3 0 100k',
      'write -P 4 130k 3k',
      'write -z 20k 5k',
      'write -z -u 60k 2k',
      'write -P 5 300k 190k',
      'discard 310k 9k',
    ];
    const { code } = await runCommand('qemu-io', ['-d', 'unmap', ...commands.flatMap((command) => ['-c', command]), path]);
    assert.equal(code, 0);
    const bytes = await readFile(path);
    return { bytes, image: { name: 'image', header: parseHeader(bytes, 'image'), fileSizeBytes: bytes.length } };
  }

  it(`give a typed error, or a disk whose bytes all lie within the file ${SEED_TEXT}`, async function () {
    this.timeout(TIME_BOX_MS + 10_000);
    const { bytes, image } = await original();
    const tables = tablesOf(bytes, image);
    const random = createRandom(SEED);
    const endMs = performance.now() + TIME_BOX_MS;
    const seen = { refused: 0, compressed: 0, plain: 0 };
    for (let round = 0; round % 100 !== 0 || performance.now() < endMs; round += 1) {
      const copy = Buffer.from(bytes);
      mutate(copy, tables, random);
      try {
        const mapping = mappingOf(copy, image);
        seen[mapping === undefined ? 'compressed' : 'plain'] += 1;
        if (mapping === undefined) continue;
        assert.equal(mapping.sizeBytes, image.header.sizeBytes);
        for (const { place, length } of mapping.ranges(0, mapping.sizeBytes))
          assert.ok(place === undefined || (place.offset >= CLUSTER && place.offset + length <= bytes.length), `round ${round}`);
      } catch (error) {
        if (!(error instanceof DiskliftError) || error.code !== 'SourceReadError') throw error;
        seen.refused += 1;
      }
    }
    for (const [what, count] of Object.entries(seen)) assert.ok(count > 10, `${what}: ${count}`);
  });

  it(`never give a disk that differs from QEMU's ${SEED_TEXT}`, async function () {
    this.timeout(60_000);
    const { bytes, image } = await original();
    const tables = tablesOf(bytes, image);
    const random = createRandom(SEED + 1);
    let judged = 0;
    for (let round = 0; judged < JUDGED_BY_QEMU; round += 1) {
      const copy = Buffer.from(bytes);
      mutate(copy, tables, random);
      const path = temp(`${round}.qcow2`);
      await writeFile(path, copy);
      const content = await contentOf(path);
      if (content === undefined) continue;
      judged += 1;
      const { code, stderr } = await runCommand('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', path, temp('raw')]);
      assert.equal(code, 0, `round ${round}: ${stderr}`);
      assert.ok(content.equals(await readFile(temp('raw'))), `round ${round}`);
    }
  });

  for (const [kind, options, flags] of [
    ['compressed', `cluster_size=${CLUSTER}`, ['-c']],
    ['extended', 'cluster_size=16k,extended_l2=on', []],
  ] as const)
    it(`of an image that QEMU reads point at nothing behind its end: ${kind} ${SEED_TEXT}`, async function () {
      this.timeout(60_000);
      const random = createRandom(SEED + 2);
      const content = Buffer.alloc(500 * 1024);
      for (let at = 0; at < content.length; at += 1 + Math.floor(random() * 40)) content[at] = random() * 256;
      await writeFile(temp('disk'), content);
      const command = ['convert', '-f', 'raw', '-O', 'qcow2', ...flags, '-o', options, temp('disk'), temp('original')];
      assert.equal((await runCommand('qemu-img', command)).code, 0);
      const bytes = await readFile(temp('original'));
      const image = { name: 'image', header: parseHeader(bytes, 'image'), fileSizeBytes: bytes.length };
      const l1 = placeOfL1Table(image);
      const l2Offsets = [...parseL1Table(bytes.subarray(l1.offset, l1.offset + l1.length), image)];
      const seen = { refused: 0, complete: 0 };
      for (let round = 0; seen.complete < JUDGED_BY_QEMU / 2; round += 1) {
        const copy = Buffer.from(bytes);
        mutate(
          copy,
          l2Offsets.map((start) => ({ start, length: Math.min(CLUSTER, image.header.clusterSizeBytes) })),
          random,
        );
        try {
          const check = createTruncationCheck(image);
          for (const [index, offset] of l2Offsets.entries())
            check.addTable(copy.subarray(offset, offset + image.header.clusterSizeBytes), { index, offset });
          seen.complete += 1;
        } catch (error) {
          if (!(error instanceof DiskliftError) || error.code !== 'SourceReadError') throw error;
          seen.refused += 1;
          continue;
        }
        // Bytes that QEMU reads behind the end must not matter.
        const [alone, followed] = [temp('alone'), temp('followed')];
        await writeFile(alone, copy);
        await writeFile(followed, Buffer.concat([copy, Buffer.alloc(2 ** 20, 0xaa)]));
        assert.deepEqual(await readByQemu(alone), await readByQemu(followed), `round ${round}`);
      }
      assert.ok(seen.refused > 0, JSON.stringify(seen));
    });

  /** @returns the content, or the exit code if QEMU cannot read it */
  async function readByQemu(path: string): Promise<number | Buffer> {
    const { code } = await runCommand('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', path, `${path}.raw`]);
    return code === 0 ? readFile(`${path}.raw`) : 1;
  }

  /** @returns undefined if disklift refuses the image */
  async function contentOf(path: string): Promise<Buffer | undefined> {
    try {
      await using opened = await openByUs(path);
      return opened.disk === undefined ? undefined : await readDisk(opened.disk);
    } catch (error) {
      if (error instanceof DiskliftError) return undefined;
      throw error;
    }
  }
});
