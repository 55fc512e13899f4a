/** The end of the process while a call to storage hangs. */

import assert from 'node:assert/strict';
import path from 'node:path';
import { disklift } from '../helpers/disklift.ts';
import { runCommand } from '../helpers/run-command.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const HUNG_READ = path.join(import.meta.dirname, '..', 'fixtures', 'hung-read.cjs');

describe('a process with a call that hangs in a thread of the pool', () => {
  const temp = useTempDir();

  for (const [name, args, code, withoutKoffi] of [
    ['ends with exit code 0 when all is done', ['--version'], 0, false],
    ['ends with its exit code when something failed', ['stream', '/no/such/disk.img'], 1, false],
    ['ends without koffi too', ['--version'], 137, true],
  ] as const)
    it(name, async () => {
      await runCommand('mkfifo', [temp('fifo')]);
      const env = { NODE_OPTIONS: `--require ${HUNG_READ}`, DISKLIFT_TEST_FIFO: temp('fifo') };
      const ended = await disklift(args, { env, withoutKoffi });
      assert.equal(ended.signal === 'SIGKILL' ? 137 : ended.code, code, ended.stderr);
    });
});
