import assert from 'node:assert/strict';
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import v8 from 'node:v8';
import vm from 'node:vm';
import { type CallResult, loadLibc } from '../../../src/native/libc.ts';
import { runCommand } from '../../helpers/run-command.ts';
import { createDisk } from '../../helpers/sparse-disk.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';

/** Capacity of a pipe. */
const PIPE_BYTES = 64 * 1024;

/** Collects garbage at once; Node hides the function unless it is asked for. */
function garbageCollector(): () => void {
  v8.setFlagsFromString('--expose-gc');
  return vm.runInNewContext('gc') as () => void;
}

describe('libc', () => {
  const temp = useTempDir();

  it('keeps the memory that the kernel writes to for as long as a call runs', async () => {
    const libc = loadLibc();
    assert.ok(libc, 'koffi is installed for the tests');
    const collectGarbage = garbageCollector();
    const disk = await createDisk(temp('disk.img'), PIPE_BYTES, [{ offsetBytes: 0, lengthBytes: PIPE_BYTES, content: 'random' }]);
    await runCommand('mkfifo', [temp('fifo')]);
    // Opening a FIFO for both waits for nobody.
    const [fdIn, fifo] = [openSync(disk, 'r'), openSync(temp('fifo'), 'r+')];
    // A call waits when the pipe is full.
    writeSync(fifo, Buffer.alloc(PIPE_BYTES));

    function startCall(): { offset: WeakRef<BigInt64Array>; done: Promise<CallResult> } {
      const offset = BigInt64Array.of(0n);
      return { offset: new WeakRef(offset), done: libc?.sendfile(fifo, fdIn, offset, PIPE_BYTES) as Promise<CallResult> };
    }

    const { offset, done } = startCall();
    let isDone = false;
    const after = done.then(({ value }) => {
      isDone = true;
      return value;
    });
    try {
      for (let round = 0; round < 3; round++) {
        await nextTurn();
        collectGarbage();
      }
      assert.equal(isDone, false, 'the call waits for a reader');
      assert.notEqual(offset.deref(), undefined, 'the offset, which the call will advance, was freed');
    } finally {
      readSync(fifo, Buffer.alloc(PIPE_BYTES));
      assert.ok((await after) > 0);
      for (const fd of [fdIn, fifo]) closeSync(fd);
    }
    await nextTurn();
    collectGarbage();
    assert.equal(offset.deref(), undefined, 'and let go behind it');
  });
});
