/** `npm ci` on the machine's Node, which is older than the one that it installs. */

import assert from 'node:assert/strict';
import { copyFileSync } from 'node:fs';
import path from 'node:path';
import { runCommand } from '../helpers/run-command.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const ROOT = path.join(import.meta.dirname, '..', '..');
const MACHINE_PATH = (process.env.PATH ?? '').split(':').filter((directory) => !directory.endsWith('/node_modules/.bin'));

describe('npm ci', function () {
  this.timeout(60_000);
  const temp = useTempDir();

  it('prints no warning with any Node of the machine', async () => {
    for (const name of ['package.json', 'package-lock.json', '.npmrc']) copyFileSync(path.join(ROOT, name), temp(name));
    const args = ['ci', '--dry-run', '--offline', '--no-audit', '--no-fund'];
    const { code, stderr } = await runCommand('npm', args, { cwd: temp('.'), env: { PATH: MACHINE_PATH.join(':') } });
    assert.equal(code, 0, stderr);
    assert.equal(stderr, '');
  });
});
