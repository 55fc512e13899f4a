import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { DiskliftError } from '../../../src/common/errors.ts';
import { createLimiter, type Limiter, mapConcurrently } from '../../../src/common/limiter.ts';
import { NEVER } from '../../helpers/image-in-process.ts';

describe('amounts of a limiter', () => {
  /** Acquires in the background. */
  function ask(limiter: Limiter, amount: number, { signal = NEVER, priority = 0 } = {}) {
    const asked: { release?: () => void; error?: unknown } = {};
    limiter.acquire(amount, { signal, priority }).then(
      (release) => {
        asked.release = release;
      },
      (error: unknown) => {
        asked.error = error;
      },
    );
    return asked;
  }

  it('grants what is free, and the next request after a release', async () => {
    const limiter = createLimiter(10);
    const [first, second, third] = [ask(limiter, 6), ask(limiter, 4), ask(limiter, 1)];
    await nextTurn();
    assert.deepEqual([first.release !== undefined, second.release !== undefined, third.release], [true, true, undefined]);
    second.release?.();
    await nextTurn();
    assert.ok(third.release !== undefined);
  });

  it('grants the request that came first, even if a later one would fit', async () => {
    const limiter = createLimiter(10);
    const held = ask(limiter, 6);
    const [large, small] = [ask(limiter, 8), ask(limiter, 1)];
    await nextTurn();
    assert.deepEqual([large.release, small.release], [undefined, undefined]);
    held.release?.();
    await nextTurn();
    assert.ok(large.release !== undefined && small.release !== undefined);
  });

  it('ignores a second release', async () => {
    const limiter = createLimiter(10);
    const held = ask(limiter, 6);
    await nextTurn();
    held.release?.();
    held.release?.();
    const [all, more] = [ask(limiter, 10), ask(limiter, 1)];
    await nextTurn();
    assert.ok(all.release !== undefined);
    assert.equal(more.release, undefined);
  });

  it('grants a request above the capacity when nothing else is taken', async () => {
    const limiter = createLimiter(10);
    const held = ask(limiter, 1);
    const huge = ask(limiter, 100);
    await nextTurn();
    assert.equal(huge.release === undefined, true);
    held.release?.();
    await nextTurn();
    assert.ok(huge.release !== undefined);
    huge.release();
    const next = ask(limiter, 10);
    await nextTurn();
    assert.ok(next.release !== undefined);
  });

  it('drops a cancelled request, and grants the next one', async () => {
    const limiter = createLimiter(10);
    ask(limiter, 6);
    const cancel = new AbortController();
    const [cancelled, behind] = [ask(limiter, 8, { signal: cancel.signal }), ask(limiter, 4)];
    await nextTurn();
    assert.equal(behind.release, undefined);
    const reason = new DiskliftError('Cancelled', 'enough');
    cancel.abort(reason);
    await nextTurn();
    assert.equal(cancelled.error, reason);
    assert.ok(behind.release !== undefined);
  });

  it('gives back an amount that was granted at the moment of the cancellation', async () => {
    const limiter = createLimiter(10);
    const held = ask(limiter, 10);
    await nextTurn();
    const cancel = new AbortController();
    const cancelled = ask(limiter, 10, { signal: cancel.signal });
    cancel.abort();
    held.release?.();
    await nextTurn();
    assert.ok(cancelled.error instanceof DiskliftError);
    const next = ask(limiter, 10);
    await nextTurn();
    assert.ok(next.release !== undefined);
  });

  it('grants a higher priority first, and requests of one priority in their order', async () => {
    const limiter = createLimiter(1);
    const held = ask(limiter, 1);
    const [low, high, alsoHigh] = [ask(limiter, 1), ask(limiter, 1, { priority: 1 }), ask(limiter, 1, { priority: 1 })];
    for (const next of [held, high, alsoHigh, low]) {
      await nextTurn();
      assert.ok(next.release !== undefined);
      assert.equal([held, high, alsoHigh, low].filter(({ release }) => release !== undefined).length, 1);
      next.release();
      next.release = undefined as never;
    }
  });
});

describe('tasks of a limiter', () => {
  it('never runs more tasks than its capacity, and starts them in order', async () => {
    const limiter = createLimiter(3);
    const started: number[] = [];
    let running = 0;
    let most = 0;
    const tasks = Array.from({ length: 20 }, (_, index) =>
      limiter.run(async () => {
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

  it('runs the next task after one fails', async () => {
    const limiter = createLimiter(1);
    await assert.rejects(limiter.run(() => Promise.reject(new Error('no'))));
    assert.equal(await limiter.run(async () => 'yes'), 'yes');
  });
});

describe('mapConcurrently', () => {
  const numbers = Array.from({ length: 20 }, (_, index) => index);

  it('returns the results in the order of the items, and keeps to the limit of concurrent tasks', async () => {
    let running = 0;
    let mostRunning = 0;
    const results = await mapConcurrently(numbers, 4, async (item, index) => {
      running += 1;
      mostRunning = Math.max(mostRunning, running);
      for (let turn = 20 - item; turn > 0; turn -= 1) await nextTurn();
      running -= 1;
      return [item, index];
    });
    assert.deepEqual(
      results,
      numbers.map((item) => [item, item]),
    );
    assert.equal(mostRunning, 4);
    assert.deepEqual(await mapConcurrently([], 4, () => assert.fail('nothing is to be done')), []);
  });

  it('throws the failure of the first failed item when all tasks have ended, and starts no task after a failure', async () => {
    const begun: number[] = [];
    let running = 0;
    const mapped = mapConcurrently(numbers, 4, async (item) => {
      begun.push(item);
      running += 1;
      for (let turn = item === 2 ? 1 : 5; turn > 0; turn -= 1) await nextTurn();
      running -= 1;
      if (item === 1 || item === 2) throw new Error(`item ${item}`);
    });
    await assert.rejects(mapped, /item 1/);
    assert.deepEqual([begun, running], [[0, 1, 2, 3], 0]);
  });
});
