import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { createBudget } from '../../../src/common/budget.ts';
import { DiskliftError } from '../../../src/common/errors.ts';
import { NEVER } from '../../helpers/image-in-process.ts';

describe('byte budget', () => {
  /** Acquires in the background. */
  function ask(budget: ReturnType<typeof createBudget>, sizeBytes: number, signal = NEVER) {
    const asked: { release?: () => void; error?: unknown } = {};
    budget.acquire(sizeBytes, signal).then(
      (release) => {
        asked.release = release;
      },
      (error: unknown) => {
        asked.error = error;
      },
    );
    return asked;
  }

  it('gives what is free, and then waits for what comes back', async () => {
    const budget = createBudget(10);
    const [first, second, third] = [ask(budget, 6), ask(budget, 4), ask(budget, 1)];
    await nextTurn();
    assert.deepEqual([first.release !== undefined, second.release !== undefined, third.release], [true, true, undefined]);
    second.release?.();
    await nextTurn();
    assert.ok(third.release !== undefined);
  });

  it('serves who came first, though somebody behind would fit', async () => {
    const budget = createBudget(10);
    const held = ask(budget, 6);
    const [large, small] = [ask(budget, 8), ask(budget, 1)];
    await nextTurn();
    assert.deepEqual([large.release, small.release], [undefined, undefined]);
    held.release?.();
    await nextTurn();
    assert.ok(large.release !== undefined && small.release !== undefined);
  });

  it('takes the second return for none', async () => {
    const budget = createBudget(10);
    const held = ask(budget, 6);
    await nextTurn();
    held.release?.();
    held.release?.();
    const [all, more] = [ask(budget, 10), ask(budget, 1)];
    await nextTurn();
    assert.ok(all.release !== undefined);
    assert.equal(more.release, undefined);
  });

  it('gives more than there is when nothing else is taken', async () => {
    const budget = createBudget(10);
    const held = ask(budget, 1);
    const huge = ask(budget, 100);
    await nextTurn();
    assert.equal(huge.release === undefined, true);
    held.release?.();
    await nextTurn();
    assert.ok(huge.release !== undefined);
    huge.release();
    const next = ask(budget, 10);
    await nextTurn();
    assert.ok(next.release !== undefined);
  });

  it('forgets who was cancelled, and goes on with who is behind', async () => {
    const budget = createBudget(10);
    ask(budget, 6);
    const cancel = new AbortController();
    const [cancelled, behind] = [ask(budget, 8, cancel.signal), ask(budget, 4)];
    await nextTurn();
    assert.equal(behind.release, undefined);
    const reason = new DiskliftError('Cancelled', 'enough');
    cancel.abort(reason);
    await nextTurn();
    assert.equal(cancelled.error, reason);
    assert.ok(behind.release !== undefined);
  });

  it('gives back what was granted in the moment of a cancellation', async () => {
    const budget = createBudget(10);
    const held = ask(budget, 10);
    await nextTurn();
    const cancel = new AbortController();
    const cancelled = ask(budget, 10, cancel.signal);
    cancel.abort();
    held.release?.();
    await nextTurn();
    assert.ok(cancelled.error instanceof DiskliftError);
    const next = ask(budget, 10);
    await nextTurn();
    assert.ok(next.release !== undefined);
  });
});
