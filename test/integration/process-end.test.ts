/** The end of the process: while a call to storage hangs, and as the first process of a container. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { disklift } from '../helpers/disklift.ts';
import { runCommand } from '../helpers/run-command.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const BIN = path.join(import.meta.dirname, '..', '..', 'src', 'bin.ts');
const WITHOUT_KOFFI = path.join(import.meta.dirname, '..', 'fixtures', 'without-koffi.cjs');
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

describe('the first process of a container', function () {
  this.timeout(30_000);
  const temp = useTempDir();

  before(function () {
    // Not every system lets other users than root make namespaces.
    if (process.getuid?.() !== 0) this.skip();
  });

  /** @returns the exit code that a container runtime would report, or the signal */
  async function endOf(signal: NodeJS.Signals, { hangs = false, flags = [] as string[] } = {}): Promise<number | string> {
    const args = ['--kill-child', '--pid', '--fork', '--', process.execPath, ...flags, BIN];
    await runCommand('mkfifo', [temp('fifo')]);
    const env = hangs ? { ...process.env, NODE_OPTIONS: `--require ${HUNG_READ}`, DISKLIFT_TEST_FIFO: temp('fifo') } : process.env;
    const container = spawn('unshare', [...args, 'receive', '--listen', '127.0.0.1:0', '--output', temp('image.qcow2')], { env });
    const ended = once(container, 'exit');
    try {
      await once(container.stderr, 'data');
      const [first] = readFileSync(`/proc/${container.pid}/task/${container.pid}/children`, 'utf8').trim().split(' ');
      process.kill(Number(first), signal);
      const [code, by] = (await ended) as [number | null, NodeJS.Signals | null];
      return code ?? by ?? '';
    } finally {
      container.kill('SIGKILL');
    }
  }

  for (const [signal, code] of [
    ['SIGTERM', 143],
    ['SIGINT', 130],
    ['SIGHUP', 129],
  ] as const)
    it(`ends with exit code ${code} after ${signal}, because the kernel ignores the signal that it sends to itself`, async () => {
      assert.equal(await endOf(signal), code);
    });

  it('ends with that exit code while a call hangs', async () => {
    assert.equal(await endOf('SIGTERM', { hangs: true }), 143);
  });

  it('ends while a call hangs, also without koffi', async () => {
    assert.notEqual(await endOf('SIGTERM', { hangs: true, flags: ['--require', WITHOUT_KOFFI] }), 0);
  });
});
