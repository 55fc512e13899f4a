import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { checkByQemu, checkByUs } from '../helpers/check-image.ts';
import { createImage } from '../helpers/create-image.ts';
import { runCommand } from '../helpers/run-command.ts';
import { createRandom, SEED, SEED_TEXT } from '../helpers/seed.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const TIME_BOX_MS = Number(process.env.DISKLIFT_CHECK_MS ?? 12_000);

const FILL = ['write -P 3 0 300k', 'write -P 4 700k 30k', 'write -z 20k 16k', 'write -P 5 1M 90k'];

/** Options of images, and commands of qemu-img that alter them. */
const IMAGES: readonly { options: string[]; steps?: string[][] }[] = [
  { options: ['cluster_size=4k'] },
  { options: ['compat=0.10', 'cluster_size=512'] },
  { options: ['cluster_size=1k', 'refcount_bits=1'] },
  { options: ['cluster_size=1k', 'refcount_bits=4'] },
  { options: ['cluster_size=2k', 'refcount_bits=64'] },
  { options: ['cluster_size=16k', 'extended_l2=on'] },
  { options: ['cluster_size=4k', 'preallocation=metadata'] },
  { options: [] },
  {
    options: ['cluster_size=4k'],
    steps: [
      ['qemu-img', 'snapshot', '-c', 'one', 'IMAGE'],
      ['qemu-io', '-c', 'write -P 9 100k 50k', 'IMAGE'],
      ['qemu-img', 'snapshot', '-c', 'two', 'IMAGE'],
      ['qemu-io', '-c', 'write -P 8 10k 50k', 'IMAGE'],
    ],
  },
  {
    options: ['cluster_size=4k'],
    steps: [
      ['qemu-img', 'bitmap', '--add', '-g', '4096', 'IMAGE', 'b0'],
      ['qemu-io', '-c', 'write -P 9 100k 50k', 'IMAGE'],
    ],
  },
  { options: ['cluster_size=4k'], steps: [['qemu-img', 'convert', '-c', '-O', 'qcow2', '-o', 'cluster_size=4k', 'IMAGE', 'OTHER']] },
  { options: [], steps: [['qemu-img', 'convert', '-c', '-O', 'qcow2', '-o', 'compression_type=zstd', 'IMAGE', 'OTHER']] },
];

/** Facts that QEMU's reader refuses, or that its writer never makes, and that its check passes over. */
const STRICTER = /marked as corrupt|version 2 does not know|a number at byte \d+ that is too large|no text in UTF-8/;

/** Offsets of the clusters that may hold tables: their words are places in the file. */
function tableClusters(bytes: Buffer): number[] {
  const clusterBytes = 2 ** bytes.readUInt32BE(20);
  const found = [0];
  for (let start = clusterBytes; start < bytes.length; start += clusterBytes)
    for (let at = start; at + 8 <= Math.min(start + clusterBytes, bytes.length); at += 8) {
      const word = bytes.readBigUInt64BE(at) & 0x00fffffffffffe00n;
      if (word === 0n || word >= BigInt(bytes.length)) continue;
      found.push(start);
      break;
    }
  return found;
}

/** Damages an image in one place. @returns the damage in words */
function damage(bytes: Buffer, random: () => number): string {
  const whole = (below: number) => Math.floor(random() * below);
  const clusterBytes = 2 ** bytes.readUInt32BE(20);
  const tables = tableClusters(bytes);
  const start = tables[whole(tables.length)] as number;
  const length = start === 0 ? Math.min(256, clusterBytes) : Math.min(clusterBytes, bytes.length - start);
  let at = start + whole(length);
  // Most of a table is empty; half of the damages hit an entry.
  for (let tries = 0; tries < 60 && whole(2) === 0 && bytes[at] === 0; tries += 1) at = start + whole(length);
  const word = Math.min(at - (at % 8), bytes.length - 8);
  const kind = whole(3);
  if (kind === 0) {
    const bit = whole(8);
    bytes[at] = (bytes[at] as number) ^ (1 << bit);
    return `bit ${bit} of byte ${at}`;
  }
  if (kind === 1) {
    bytes.writeBigUInt64BE(0n, word);
    return `zeros at ${word}`;
  }
  const value = BigInt(clusterBytes * whole(bytes.length / clusterBytes + 3)) | (BigInt(whole(2)) << 63n);
  bytes.writeBigUInt64BE(value, word);
  return `${value} at ${word}`;
}

describe('the check of a qcow2 image', () => {
  const temp = useTempDir();

  async function create({ options, steps = [] }: (typeof IMAGES)[number], index: number): Promise<string> {
    let path = temp(`${index}.qcow2`);
    await createImage(path, { format: 'qcow2', options, size: '3M' });
    const fill = ['qemu-io', ...FILL.flatMap((command) => ['-c', command]), 'IMAGE'];
    for (const step of [fill, ...steps]) {
      const other = temp(`${index}-other.qcow2`);
      const [program, ...args] = step.map((word) => (word === 'IMAGE' ? path : word === 'OTHER' ? other : word)) as [string, ...string[]];
      const { code, stderr } = await runCommand(program, args);
      assert.equal(code, 0, `${step.join(' ')}: ${stderr}`);
      if (step.includes('OTHER')) path = other;
    }
    return path;
  }

  it('finds nothing in images of QEMU', async function () {
    this.timeout(60_000);
    for (const [index, image] of IMAGES.entries()) {
      const path = await create(image, index);
      assert.equal((await checkByQemu(path)).verdict, 'clean');
      assert.deepEqual(await checkByUs(path), [], image.options.join());
    }
  });

  it(`has the verdict of qemu-img check on damaged tables ${SEED_TEXT}`, async function () {
    this.timeout(TIME_BOX_MS + 120_000);
    const random = createRandom(SEED);
    const originals = await Promise.all(IMAGES.map(async (image, index) => readFile(await create(image, index))));
    const path = temp('damaged.qcow2');
    const endMs = performance.now() + TIME_BOX_MS;
    let rounds = 0;
    for (; performance.now() < endMs || rounds < 24; rounds += 1) {
      const index = rounds % originals.length;
      const bytes = Buffer.from(originals[index] as Buffer);
      const what = `image ${index} (${IMAGES[index]?.options.join()}), round ${rounds}, ${damage(bytes, random)}`;
      await writeFile(path, bytes);
      const [qemu, own] = [await checkByQemu(path), await checkByUs(path)];
      const kinds = typeof own === 'string' ? 'refused' : own.map(({ kind }) => kind);
      if (qemu.verdict === 'clean') {
        // QEMU reads zeros behind the file's end, and its check passes over facts that its reader refuses.
        const isStricter =
          typeof own === 'string' ? STRICTER.test(own) : own.every(({ kind, message }) => kind === 'truncated' || STRICTER.test(message));
        assert.ok(isStricter, `${what}: only disklift finds ${JSON.stringify(own)}; ${qemu.text}`);
      } else assert.notDeepEqual(kinds, [], `${what}: only qemu-img finds ${qemu.text}`);
      if (qemu.verdict === 'corrupt' && kinds !== 'refused')
        assert.ok(
          kinds.some((kind) => kind !== 'leaked'),
          `${what}: disklift finds leaks only, and qemu-img ${qemu.text}`,
        );
    }
    assert.ok(rounds >= 24);
  });

  it(`names what a cut image has lost ${SEED_TEXT}`, async function () {
    this.timeout(60_000);
    const random = createRandom(SEED);
    const original = await readFile(await create({ options: ['cluster_size=4k'] }, 0));
    const path = temp('cut.qcow2');
    for (let round = 0; round < 20; round += 1) {
      const length = Math.floor(random() * (original.length - 1));
      await writeFile(path, original.subarray(0, length));
      const own = await checkByUs(path);
      assert.notDeepEqual(own, [], `cut at ${length} of ${original.length}`);
    }
  });
});
