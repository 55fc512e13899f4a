/**
 * A new format needs one folder and one row. The test adds a made-up one to a copy of the sources; every command then
 * supports it.
 */

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { INCOMPLETE_ROW, MADE_UP_READER, MADE_UP_ROW, madeUpImage } from '../fixtures/made-up-format.ts';
import { type PlantedTree, plantedTree } from '../helpers/planted-tree.ts';
import { type CommandResult, runCommand } from '../helpers/run-command.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const END_OF_TABLE = '} satisfies Record<string, Format>;';
const CONTENT = randomBytes(256 * 1024);

describe('a format that is added to the table', function () {
  this.timeout(180_000);
  let tree: PlantedTree;
  const temp = useTempDir();
  const inTree = (name: string) => path.join(tree.root, name);

  function addRow(row: string): void {
    const table = readFileSync(inTree('src/formats/formats.ts'), 'utf8');
    assert.equal(table.split(END_OF_TABLE).length, 2, 'the table has one end');
    writeFileSync(inTree('src/formats/formats.ts'), table.replace(END_OF_TABLE, `${row}${END_OF_TABLE}`));
  }

  before(() => {
    tree = plantedTree(['src', 'tsconfig.json', 'package.json']);
    mkdirSync(inTree('src/formats/mad'));
    writeFileSync(inTree('src/formats/mad/mad-reader.ts'), MADE_UP_READER);
    addRow(MADE_UP_ROW);
  });
  after(() => tree[Symbol.dispose]());

  beforeEach(() => writeFileSync(temp('a.mad'), madeUpImage(CONTENT)));

  const disklift = (...args: string[]): Promise<CommandResult> => runCommand(process.execPath, [inTree('src/bin.ts'), ...args]);

  it('is exported by -f', async () => {
    const { code, stdout, stderr } = await disklift('stream', '-f', 'mad', temp('a.mad'));
    assert.deepEqual({ code, stderr }, { code: 0, stderr: '' });
    writeFileSync(temp('a.qcow2'), stdout);
    const convert = await runCommand('qemu-img', ['convert', '-O', 'raw', temp('a.qcow2'), temp('a.raw')]);
    assert.equal(convert.code, 0, convert.stderr);
    assert.ok(readFileSync(temp('a.raw')).equals(CONTENT));
  });

  it('is recognized by its name, and by its bytes', async () => {
    const { lookAtVolume } = await import(inTree('src/formats/find-disks.ts'));
    assert.deepEqual((await lookAtVolume(temp(''), undefined)).disks, ['a.mad']);
    assert.match((await disklift('measure', temp('a.mad'))).stderr, /is named like a mad image and is read as a raw disk; give -f mad /);
    writeFileSync(temp('b.img'), madeUpImage(CONTENT));
    assert.match((await disklift('measure', temp('b.img'))).stderr, /begins like a mad image and is read as a raw disk; give -f mad /);
  });

  it('has its truncation check and a driver of QEMU', async () => {
    const { openImageFiles } = await import(inTree('src/formats/image-files.ts'));
    const { requireNotTruncated } = await import(inTree('src/formats/open-image-disk.ts'));
    const { createNodeGraph } = await import(inTree('src/formats/qemu/node-graph.ts'));
    writeFileSync(temp('a.mad'), madeUpImage(CONTENT).subarray(0, -1));
    const handle = await (await import('node:fs/promises')).open(temp('a.mad'));
    const root = { handle, volumePath: temp(''), relativePath: 'a.mad', format: 'mad', isGuess: false };
    await using image = await openImageFiles(root, { libc: undefined });
    const options = { libc: undefined, readLimit: { run: (task: () => unknown) => task() }, signal: new AbortController().signal };
    await assert.rejects(requireNotTruncated(image, options), /a\.mad: is cut short or damaged: its disk goes on/);
    assert.equal(createNodeGraph(image.root, { firstFd: 5, isBlockDevice: () => false }).disk.driver, 'mad');
  });

  it('compiles only if its row is complete', async () => {
    addRow(INCOMPLETE_ROW);
    const { stdout } = await runCommand('tsc', ['-p', tree.root], { cwd: tree.root });
    const text = stdout.toString();
    assert.match(text, /missing the following properties from type 'Format': footer, load/);
    for (const [line] of text.matchAll(/^\S.*$/gm)) assert.match(line, /^src\/formats\/formats\.ts\(/);
  });
});
