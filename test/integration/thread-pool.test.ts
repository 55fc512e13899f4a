import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import type { Readable } from 'node:stream';
import { diskliftLine } from '../helpers/disklift.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const MIB = 1024 * 1024;

describe("libuv's thread pool", () => {
  const temp = useTempDir();

  function poolThreads(pid: number): number {
    const names = readdirSync(`/proc/${pid}/task`).map((task) => readFileSync(`/proc/${pid}/task/${task}/comm`, 'utf8'));
    return names.filter((name) => name.startsWith('libuv-worker')).length;
  }

  for (const [env, expected] of [
    [{}, 12],
    [{ UV_THREADPOOL_SIZE: '7' }, 7],
    [{ UV_THREADPOOL_SIZE: 'abc' }, 12],
    [{ UV_THREADPOOL_SIZE: '0' }, 12],
    [{ UV_THREADPOOL_SIZE: '-3' }, 12],
  ] as const) {
    it(`has ${expected} threads with ${JSON.stringify(env)}: its size is set before its first use`, async () => {
      const disk = await createDisk(temp('disk.img'), 32 * MIB, [{ offsetBytes: 0, lengthBytes: 32 * MIB, content: 'random' }]);
      // A reader that does not read keeps the process alive behind a full pipe.
      const child = spawn('bash', ['-c', `exec ${diskliftLine(['stream', disk])}`], {
        stdio: ['ignore', 'pipe', 'ignore'],
        env: { ...process.env, UV_THREADPOOL_SIZE: undefined, ...env },
      });
      // The first bytes come after threads of the pool have read the disk; libuv starts all threads at the first use.
      await once(child.stdout as Readable, 'readable');
      const threads = poolThreads(child.pid as number);
      child.kill('SIGKILL');
      child.stdout?.destroy();
      await once(child, 'close');
      assert.equal(threads, expected);
    });
  }
});
