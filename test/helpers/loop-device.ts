/** Loop devices: real block devices whose content lies in a file. They need root. */

import assert from 'node:assert/strict';
import { runCommand } from './run-command.ts';

export interface LoopDevice extends AsyncDisposable {
  path: string;
}

/** Why loop devices are not available here; undefined if they are. In CI they must be. */
async function loopDeviceProblem(): Promise<string | undefined> {
  if (process.getuid?.() !== 0) return 'loop devices need root';
  const free = await runCommand('losetup', ['-f']).catch((error: unknown) => ({ code: 1, stderr: String(error) }));
  return free.code === 0 ? undefined : `losetup -f: ${free.stderr.trim()}`;
}

/** Skips a suite with one loud line if loop devices are not available; fails it in CI. Call it in `before`. */
export async function requireLoopDevices(context: Mocha.Context): Promise<void> {
  const problem = await loopDeviceProblem();
  if (problem === undefined) return;
  if (process.env.CI) assert.fail(`tests of block devices cannot run: ${problem}`);
  console.error(`    SKIPPED: tests of block devices: ${problem}`);
  context.skip();
}

export async function attachLoopDevice(backingPath: string): Promise<LoopDevice> {
  const attached = await runCommand('losetup', ['-f', '--show', backingPath]);
  assert.equal(attached.code, 0, attached.stderr);
  const path = attached.stdout.toString().trim();
  return {
    path,
    async [Symbol.asyncDispose]() {
      const detached = await runCommand('losetup', ['-d', path]);
      assert.equal(detached.code, 0, detached.stderr);
    },
  };
}
