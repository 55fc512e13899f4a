import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { createSemaphore } from '../../../src/common/semaphore.ts';

describe('semaphore', () => {
  it('never lets more tasks run than it has permits, and starts them in order', async () => {
    const semaphore = createSemaphore(3);
    const started: number[] = [];
    let running = 0;
    let most = 0;
    const tasks = Array.from({ length: 20 }, (_, index) =>
      semaphore.run(async () => {
        started.push(index);
        running += 1;
        most = Math.max(most, running);
        await nextTurn();
        running -= 1;
      }),
    );
    await Promise.all(tasks);
    assert.equal(most, 3);
    assert.deepEqual(
      started,
      started.toSorted((a, b) => a - b),
    );
  });

  it('gives the permit back when a task fails', async () => {
    const semaphore = createSemaphore(1);
    await assert.rejects(semaphore.run(() => Promise.reject(new Error('no'))));
    assert.equal(await semaphore.run(async () => 'yes'), 'yes');
  });
});
