/**
 * The test breaks every rule about the sources once, in a copy. `make check` must find each violation, and accept
 * allowed imports.
 */

import assert from 'node:assert/strict';
import path from 'node:path';
import { ALLOWED, LAYER_VIOLATIONS, type PlantedViolations, SIZE_VIOLATIONS, SOURCE_VIOLATIONS } from '../fixtures/planted-violations.ts';
import { type PlantedTree, type Plants, plantedTree } from '../helpers/planted-tree.ts';
import { runCommand } from '../helpers/run-command.ts';
import { checkLayers, EVERY_MODULE_SEEN, LAYERS_FILE } from '../tools/check-layers.ts';
import { checkSize, SIZE_RULES } from '../tools/check-size.ts';
import { checkSource } from '../tools/check-source.ts';
import { SOURCE_RULES } from '../tools/source-rules.ts';
import { sourcePaths } from '../tools/source-tree.ts';
import type { Violation } from '../tools/violation.ts';

const ROOT = path.join(import.meta.dirname, '..', '..');
const CHECKS = ['check-layers.ts', 'check-source.ts', 'check-size.ts'].map((name) => path.join('test', 'tools', name));

interface PlantedViolation {
  rule: string;
  plants: Plants;
}

/** Examining all sources takes a second or two. Violations in different files are therefore planted together. */
function batchesOf(plantsByRule: PlantedViolations): PlantedViolation[][] {
  const batches: PlantedViolation[][] = [];
  for (const [rule, planted] of Object.entries(plantsByRule))
    for (const plants of planted) {
      const files = Object.keys(plants);
      const isFree = (batch: PlantedViolation[]) => !batch.some((planted) => files.some((file) => Object.hasOwn(planted.plants, file)));
      const batch = batches.find(isFree);
      if (batch === undefined) batches.push([{ rule, plants }]);
      else batch.push({ rule, plants });
    }
  return batches;
}

describe('the rules about the sources', () => {
  let tree: PlantedTree;
  before(() => {
    tree = plantedTree(['src', LAYERS_FILE, 'tsconfig.json', 'package.json']);
  });
  after(() => tree[Symbol.dispose]());

  /** Plants every violation, and asserts that `check` names its rule at one of the planted files. */
  async function assertSeen(
    rules: readonly string[],
    plantsByRule: PlantedViolations,
    check: (root: string) => Violation[] | Promise<Violation[]>,
  ) {
    assert.deepEqual(Object.keys(plantsByRule).sort(), [...rules].sort(), 'every rule is broken once');
    for (const [rule, planted] of Object.entries(plantsByRule)) assert.ok(planted.length > 0, rule);
    for (const batch of batchesOf(plantsByRule)) {
      const plants = Object.assign({}, ...batch.map((planted) => planted.plants));
      const violations = await tree.withPlanted(plants, () => check(tree.root));
      for (const planted of batch) {
        const isFound = violations.some(
          ({ rule, where }) => rule === planted.rule && Object.hasOwn(planted.plants, where.replace(/:\d+$/, '')),
        );
        assert.ok(isFound, `${planted.rule} in ${JSON.stringify(planted.plants)}, but found: ${JSON.stringify(violations)}`);
      }
    }
  }

  it('accept the sources', async () => {
    assert.deepEqual([...(await checkLayers(tree.root)), ...checkSource(tree.root), ...checkSize(tree.root)], []);
  });

  it('accept every import that is allowed', async () => {
    const violations = await tree.withPlanted(ALLOWED, async () => [...(await checkLayers(tree.root)), ...checkSource(tree.root)]);
    assert.deepEqual(violations, []);
  });

  it('find every import that is not allowed', async () => {
    const { default: config } = await import(path.join(ROOT, LAYERS_FILE));
    const rules = config.forbidden.map(({ name }: { name: string }) => name);
    await assertSeen(rules, LAYER_VIOLATIONS, checkLayers);
  });

  it('find every violation that imports cannot show', async () => {
    await assertSeen(
      SOURCE_RULES.map(({ name }) => name),
      SOURCE_VIOLATIONS,
      checkSource,
    );
  });

  it('find files that are too long or have a wrong name', () => assertSeen(SIZE_RULES, SIZE_VIOLATIONS, checkSize));

  it('fail when a module of src was not examined', async () => {
    const blindLayers = `import config from './${LAYERS_FILE}';\nexport default { ...config, options: { ...config.options, exclude: '^src/qcow2/' } };\n`;
    const violations = await tree.withPlanted({ 'blind.mjs': blindLayers }, () => checkLayers(tree.root, 'blind.mjs'));
    const unseen = violations.filter(({ rule }) => rule === EVERY_MODULE_SEEN).map(({ where }) => where);
    assert.deepEqual(
      unseen,
      sourcePaths(tree.root).filter((sourcePath) => sourcePath.startsWith('src/qcow2/')),
    );
    assert.ok(unseen.length > 5);
  });

  it('end make check: its commands exit with 1 and name the file and the rule', async () => {
    const makeCheck = (await runCommand('make', ['--dry-run', '--always-make', 'check'], { cwd: ROOT })).stdout.toString();
    const planted = [LAYER_VIOLATIONS['layer-qcow2'], SOURCE_VIOLATIONS['no-process-exit'], SIZE_VIOLATIONS['most-lines']];
    for (const [index, check] of CHECKS.entries()) {
      assert.ok(makeCheck.includes(`node ${check}`), check);
      const run = () => runCommand(process.execPath, [path.join(ROOT, check)], { cwd: tree.root });
      assert.equal((await run()).code, 0);
      const [plants = {}] = planted[index] ?? [];
      const { code, stderr } = await tree.withPlanted(plants, run);
      assert.equal(code, 1);
      assert.match(stderr, /^src\/(qcow2|cli|image)\/planted\.ts(:\d+)?: .*\[(layer-qcow2|no-process-exit|most-lines)\]$/m);
    }
  });
});
