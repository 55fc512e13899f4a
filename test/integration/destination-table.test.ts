/**
 * A new destination needs one folder and one row in each half of the table. The test adds a made-up one to a copy of
 * the sources; every part then supports it.
 */

import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { stringify } from 'yaml';
import { MADE_UP_KIND, MADE_UP_PROPERTY, MADE_UP_ROW, MADE_UP_TARGET } from '../fixtures/made-up-destination.ts';
import { diskExport } from '../helpers/manifest.ts';
import { type PlantedTree, plantedTree } from '../helpers/planted-tree.ts';
import { type CommandResult, runCommand } from '../helpers/run-command.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { checkLayers, LAYERS_FILE } from '../tools/check-layers.ts';
import { CRD_FILE, generateTypes, SCHEDULE_CRD_FILE } from '../tools/generate-types.ts';

const KINDS = 'src/resource/destination-kinds.ts';
const TABLE = 'src/wiring/destinations.ts';
const START_OF_TCP_ROW = '  tcp: {';
const MIB = 1024 * 1024;

describe('a destination that is added to the table', function () {
  this.timeout(300_000);
  let tree: PlantedTree;
  let withoutRows: string;
  const temp = useTempDir();
  const inTree = (name: string) => path.join(tree.root, name);

  function insert(file: string, before: string, text: string): void {
    const old = readFileSync(inTree(file), 'utf8');
    assert.equal(old.split(before).length, 2, `${file} has ${before} once`);
    writeFileSync(
      inTree(file),
      old.replace(before, () => text + before),
    );
  }

  async function compilerErrors(): Promise<string> {
    return (await runCommand('tsc', ['-p', tree.root], { cwd: tree.root })).stdout.toString();
  }

  const disklift = (...args: string[]): Promise<CommandResult> => runCommand(process.execPath, [inTree('src/bin.ts'), ...args]);

  before(async () => {
    tree = plantedTree(['src', CRD_FILE, SCHEDULE_CRD_FILE, LAYERS_FILE, 'tsconfig.json', 'package.json']);
    insert(CRD_FILE, '                    tcp:\n                      title: TcpDestination', MADE_UP_PROPERTY);
    writeFileSync(inTree(CRD_FILE), readFileSync(inTree(CRD_FILE), 'utf8').replace('enum: [HTTP, S3, TCP]', 'enum: [HTTP, S3, TCP, TAPE]'));
    for (const [file, text] of await generateTypes(tree.root)) writeFileSync(inTree(file), text);
    withoutRows = await compilerErrors();
    mkdirSync(inTree('src/targets/tape'));
    writeFileSync(inTree('src/targets/tape/tape-target.ts'), MADE_UP_TARGET);
    insert(KINDS, START_OF_TCP_ROW, MADE_UP_KIND);
    insert(TABLE, START_OF_TCP_ROW, MADE_UP_ROW);
  });
  after(() => tree[Symbol.dispose]());

  it('does not compile until both halves of the table have its row, and needs no other file', () => {
    const files = new Set([...withoutRows.matchAll(/^(src\S+?)\(.*error/gm)].map(([, file]) => file));
    assert.deepEqual([...files].sort(), [KINDS, TABLE], withoutRows);
  });

  it('compiles with its rows, and keeps the rules of the layers', async () => {
    assert.equal(await compilerErrors(), '');
    assert.deepEqual(await checkLayers(tree.root), []);
  });

  it('receives the image of an export', async () => {
    await createDisk(temp('a.img'), 4 * MIB, [{ offsetBytes: 0, lengthBytes: MIB, content: 'random' }]);
    writeFileSync(temp('request.yaml'), stringify(diskExport('nightly', { tape: { path: temp('{disk}.qcow2') } })));
    const { code, stderr } = await disklift('export', '-f', temp('request.yaml'), '--volume', `claim=${temp('.')}`);
    assert.equal(code, 0, stderr);
  });

  it('is checked by its rules', async () => {
    writeFileSync(temp('request.yaml'), stringify(diskExport('nightly', { tape: { path: 'a.qcow2' } })));
    const { code, stderr } = await disklift('export', '-f', temp('request.yaml'), '--volume', `claim=${temp('.')}`);
    assert.equal(code, 2, stderr);
    assert.match(stderr, /spec\.destination\.tape\.path: must be an absolute path/);
  });

  it('has its name in the status, its address on the pages, its location, its server and its series', async () => {
    const { destinationName, destinationPlace } = await import(inTree(KINDS));
    const { destinationServer } = await import(inTree(TABLE));
    const { describeDestination } = await import(inTree('src/server/export-view.ts'));
    const { createRegistry } = await import(inTree('src/metrics/catalogue.ts'));
    const request = diskExport('nightly', { tape: { path: '/{disk}' } });
    assert.equal(destinationName(request), 'TAPE');
    assert.equal(destinationPlace(request, 'a.img'), '/a');
    assert.equal(destinationServer(request), 'the tape drive');
    assert.deepEqual(describeDestination(request.spec.destination), { kind: 'TAPE', address: 'the tape /{disk}' });
    assert.match(await createRegistry().registry.metrics(), /destination="TAPE"/);
  });

  it('counts as one of the kinds of which a request names exactly one', async () => {
    const { destinationErrors } = await import(inTree(KINDS));
    const [{ message }] = [...destinationErrors({})];
    assert.equal(message, 'exactly one of http, s3, tape and tcp must be set');
  });
});
