/** Images of every format with random content, cut at random offsets by a seed. */

import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { DiskFormat } from '../../src/formats/formats.ts';
import { judgeCutImage } from '../helpers/judge-cut-image.ts';
import { runCommand } from '../helpers/run-command.ts';
import { createRandom, SEED, SEED_TEXT } from '../helpers/seed.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const TIME_BOX_MS = 15_000;
const CUTS_OF_AN_IMAGE = 6;
const MIB = 2 ** 20;

/** Options of qemu-img: one of each list is used. Half of the images are compressed where that is possible. */
const KINDS: { format: DiskFormat; options: string[][]; isCompressible?: boolean }[] = [
  {
    format: 'qcow2',
    options: [
      ['cluster_size=512', 'cluster_size=4k', 'cluster_size=64k'],
      ['compat=1.1', 'compat=0.10'],
    ],
  },
  {
    format: 'qcow2',
    options: [
      ['cluster_size=512', 'cluster_size=16k', 'cluster_size=2M'],
      ['compression_type=zlib', 'compression_type=zstd'],
    ],
    isCompressible: true,
  },
  { format: 'qcow2', options: [['extended_l2=on,cluster_size=16k', 'extended_l2=on,cluster_size=64k']], isCompressible: true },
  {
    format: 'vmdk',
    options: [['subformat=monolithicSparse', 'subformat=twoGbMaxExtentSparse', 'subformat=streamOptimized', 'subformat=monolithicFlat']],
  },
  {
    format: 'vhdx',
    options: [
      ['subformat=dynamic', 'subformat=fixed'],
      ['block_size=1M', 'block_size=4M'],
    ],
  },
  { format: 'vdi', options: [['static=off', 'static=on']] },
  { format: 'vpc', options: [['subformat=dynamic,force_size=on', 'subformat=fixed,force_size=on']] },
];

interface Dice {
  whole(below: number): number;
  pick<T>(values: readonly T[]): T;
}

function diceOf(random: () => number): Dice {
  const whole = (below: number) => Math.floor(random() * below);
  return { whole, pick: (values) => values[whole(values.length)] as (typeof values)[number] };
}

/** Extents of noise and of text, with holes between. */
function randomContent({ whole }: Dice): Buffer {
  const content = Buffer.alloc(512 * (1 + whole(10 * 2048)));
  for (let count = whole(12); count > 0; count -= 1) {
    const [start, length] = [512 * whole(content.length / 512), 512 * whole(2048)];
    const extent = content.subarray(start, start + length);
    const step = whole(3) === 0 ? 1 : 1 + whole(400);
    for (let at = 0; at < extent.length; at += step) extent[at] = whole(256);
  }
  return content;
}

/** Often near the end, at sectors and beside them. */
function randomCut({ whole, pick }: Dice, sizeBytes: number): number {
  const far = pick([2, 512, 4096, 70_000, 2 * MIB, sizeBytes]);
  const cut = Math.max(0, sizeBytes - 1 - whole(Math.min(far, sizeBytes)));
  return pick([cut, cut - (cut % 512), cut - (cut % 4096)]);
}

describe('truncated images', () => {
  const temp = useTempDir();

  it(`are refused, or have the whole disk ${SEED_TEXT}`, async function () {
    this.timeout(TIME_BOX_MS + 20_000);
    const endMs = performance.now() + TIME_BOX_MS;
    const outcomes = { whole: 0, refused: 0 };
    for (let index = 0; index < KINDS.length || performance.now() < endMs; index += 1) {
      const dice = diceOf(createRandom(SEED + index));
      const { format, options, isCompressible } = KINDS[index % KINDS.length] as (typeof KINDS)[number];
      const flags = [...(isCompressible && dice.whole(2) === 0 ? ['-c'] : []), '-o', options.map(dice.pick).join(',')];
      const directory = temp(`${index}`);
      mkdirSync(directory);
      const content = randomContent(dice);
      writeFileSync(path.join(directory, 'disk.raw'), content);
      const command = ['convert', '-f', 'raw', '-O', format, ...flags, 'disk.raw', `a.${format}`];
      const { code, stderr } = await runCommand('qemu-img', command, { cwd: directory });
      const story = `image ${index}, ${content.length} bytes, qemu-img ${command.join(' ')}`;
      assert.equal(code, 0, `${story}: ${stderr}`);
      rmSync(path.join(directory, 'disk.raw'));
      const image = { path: path.join(directory, `a.${format}`), format, content };
      assert.equal(await judgeCutImage({ ...image, story }), 'whole', story);
      for (let round = 0; round < CUTS_OF_AN_IMAGE; round += 1) {
        const file = path.join(directory, dice.pick(readdirSync(directory).toSorted()));
        const bytes = readFileSync(file);
        const cut = randomCut(dice, bytes.length);
        writeFileSync(file, bytes.subarray(0, cut));
        const outcome = await judgeCutImage({ ...image, story: `${story}, ${path.basename(file)} cut at ${cut} of ${bytes.length}` });
        outcomes[outcome === 'whole' ? 'whole' : 'refused'] += 1;
        writeFileSync(file, bytes);
      }
      rmSync(directory, { recursive: true });
    }
    assert.ok(outcomes.whole > 0 && outcomes.refused > outcomes.whole, JSON.stringify(outcomes));
  });
});
