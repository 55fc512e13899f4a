/** qcow2 images of every plain kind, made by qemu-img and qemu-io from a seed. */

import assert from 'node:assert/strict';
import path from 'node:path';
import { createImage } from './create-image.ts';
import { runCommand } from './run-command.ts';

export interface RandomImage {
  /** The topmost image. */
  path: string;
  /** The commands that made it, for messages. */
  story: string[];
}

const KIB = 1024;
const MIB = 1024 * KIB;
const CLUSTER_SIZES = [512, 1024, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, 2 * MIB];
const MAX_SECTORS = 12 * 2048;

interface Dice {
  whole(below: number): number;
  pick<T>(values: readonly T[]): T;
  isLucky(chance: number): boolean;
}

function diceOf(random: () => number): Dice {
  const whole = (below: number) => Math.floor(random() * below);
  return { whole, pick: (values) => values[whole(values.length)] as (typeof values)[number], isLucky: (chance) => random() < chance };
}

/** @param directory an empty directory, which the caller removes */
export async function createRandomQcow2(directory: string, random: () => number): Promise<RandomImage> {
  const dice = diceOf(random);
  const story: string[] = [];
  const layerCount = 1 + dice.whole(3);
  let below: { name: string; format: string } | undefined;
  if (dice.isLucky(0.25)) below = await createRawBase(directory, dice, story);
  for (let layer = 0; layer < layerCount; layer += 1) below = await createLayer(directory, { layer, below, dice, story });
  return { path: path.join(directory, below?.name ?? ''), story };
}

async function createRawBase(directory: string, dice: Dice, story: string[]) {
  const name = 'base.raw';
  // Not always whole sectors.
  const size = 512 * dice.whole(MAX_SECTORS) + dice.pick([0, 1, 511]) + 1;
  await run(directory, story, 'qemu-img', ['create', '-q', '-f', 'raw', name, '0']);
  await run(directory, story, 'truncate', ['-s', `${size}`, name]);
  await run(directory, story, 'qemu-io', ['-f', 'raw', ...operations(dice, Math.floor(size / 512), 3), name]);
  return { name, format: 'raw' };
}

interface LayerToCreate {
  layer: number;
  below: { name: string; format: string } | undefined;
  dice: Dice;
  story: string[];
}

async function createLayer(directory: string, { layer, below, dice, story }: LayerToCreate) {
  const name = `layer${layer}.qcow2`;
  const isOld = dice.isLucky(0.25);
  const hasDataFile = !isOld && dice.isLucky(0.2);
  const refcountBits = isOld ? 16 : dice.pick([1, 8, 16, 64]);
  const isRawDataFile = hasDataFile && below === undefined && dice.isLucky(0.5);
  const options = [
    `cluster_size=${dice.pick(CLUSTER_SIZES)}`,
    `compat=${isOld ? '0.10' : '1.1'}`,
    ...(isOld ? [] : [`refcount_bits=${refcountBits}`, `lazy_refcounts=${dice.pick(['on', 'off'])}`]),
    ...(hasDataFile ? [`data_file=layer${layer}.data`] : []),
    ...(isRawDataFile ? ['data_file_raw=on'] : []),
    ...(below === undefined && !hasDataFile ? [`preallocation=${dice.pick(['off', 'off', 'metadata', 'falloc'])}`] : []),
  ];
  let sectors = 1 + dice.whole(MAX_SECTORS);
  const size = `${sectors * 512}`;
  story.push(`create ${name} ${options.join(',')} ${size} over ${below?.name}`);
  await createImage(path.join(directory, name), { format: 'qcow2', options, size, ...(below === undefined ? {} : { backing: below }) });
  const write = () =>
    run(directory, story, 'qemu-io', ['-f', 'qcow2', '-d', 'unmap', ...operations(dice, sectors, 1 + dice.whole(8)), name]);
  await write();
  if (!hasDataFile && refcountBits > 1 && dice.isLucky(0.3)) await run(directory, story, 'qemu-img', ['snapshot', '-c', 'before', name]);
  if (!isOld && !isRawDataFile && dice.isLucky(0.3)) {
    sectors = 1 + dice.whole(MAX_SECTORS);
    // With internal snapshots QEMU may refuse; then the image stays unchanged.
    const { code } = await runCommand('qemu-img', ['resize', '-q', '--shrink', '-f', 'qcow2', name, `${sectors * 512}`], {
      cwd: directory,
    });
    story.push(`resize to ${sectors} sectors: ${code}`);
    if (code !== 0) return { name, format: 'qcow2' };
  }
  await write();
  return { name, format: 'qcow2' };
}

/** Commands of qemu-io: data, zeros and discards, at whole clusters and across them. */
function operations(dice: Dice, sectors: number, count: number): string[] {
  const commands: string[] = [];
  if (sectors === 0) return ['-c', 'length'];
  for (let index = 0; index < count; index += 1) {
    const first = dice.isLucky(0.5) ? dice.whole(sectors) : Math.min(sectors - 1, dice.whole(96) * 128);
    const length = Math.min(sectors - first, dice.pick([1, 7, 128, 129, 1000, 4096]));
    const place = `${first * 512} ${length * 512}`;
    const command = dice.pick(['write -P', 'write -P', 'write -P', 'write -z', 'write -z -u', 'discard']);
    commands.push('-c', command === 'write -P' ? `write -P ${1 + dice.whole(255)} ${place}` : `${command} ${place}`);
  }
  return commands;
}

async function run(directory: string, story: string[], command: string, args: readonly string[]): Promise<void> {
  story.push([command, ...args].join(' '));
  const { code, stdout, stderr } = await runCommand(command, args, { cwd: directory });
  assert.equal(code, 0, `${story.join('\n')}\n${stdout}${stderr}`);
}
