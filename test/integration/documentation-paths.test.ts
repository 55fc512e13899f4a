import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';

const ROOT = path.join(import.meta.dirname, '..', '..');
const ENDINGS = ['', '.ts', '.test.ts', '.sh', '.py'];
const LAYERS = readdirSync(path.join(ROOT, 'src'), { withFileTypes: true }).filter((entry) => entry.isDirectory());

/**
 * Paths of files that a page names: `engine/run-export` for src/engine/run-export.ts, test/unit/qcow2/limits,
 * bench/export.ts.
 */
function pathsIn(markdown: string): string[] {
  const layer = LAYERS.map(({ name }) => name).join('|');
  const inSource = [...markdown.matchAll(new RegExp(`\`(?:src/)?((?:${layer})/[\\w./-]+)\``, 'g'))].map(([, file]) => `src/${file}`);
  const others = [...markdown.matchAll(/(?<![\w./-])(?:test|bench|findings|docs|manifests|monitoring)\/[\w./-]*\w/g)].map(([file]) => file);
  return [...inSource, ...others];
}

describe('the documentation', () => {
  const pages = execFileSync('git', ['ls-files', '*.md'], { cwd: ROOT, encoding: 'utf8' }).trim().split('\n');
  for (const page of pages)
    it(`${page} names only files that exist`, () => {
      const missing = pathsIn(readFileSync(path.join(ROOT, page), 'utf8')).filter(
        (file) => !ENDINGS.some((ending) => existsSync(path.join(ROOT, file + ending))),
      );
      assert.deepEqual(missing, []);
    });
});
