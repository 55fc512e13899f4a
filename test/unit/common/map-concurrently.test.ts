import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { mapConcurrently } from '../../../src/common/map-concurrently.ts';

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
