import assert from 'node:assert/strict';
import { DelayedKeys } from '../../../../src/stores/kubernetes/cache/delayed-keys.ts';
import { createRandom, SEED_TEXT, seedOf } from '../../../helpers/seed.ts';

describe('delayed keys', () => {
  it('gives a key when it is due, and not before', () => {
    const keys = new DelayedKeys();
    keys.add('a', 100);
    assert.deepEqual([keys.takeDue(99), keys.takeDue(100), keys.takeDue(1000)], [undefined, 'a', undefined]);
  });

  it('takes the earliest of several times of a key, once', () => {
    const keys = new DelayedKeys();
    keys.add('a', 300);
    keys.add('a', 100);
    keys.add('a', 500);
    assert.equal(keys.nextDueMs(), 100);
    assert.deepEqual([keys.takeDue(1000), keys.takeDue(1000), keys.nextDueMs()], ['a', undefined, undefined]);
  });

  it(`gives keys in the order of their times, with 5000 random ones ${SEED_TEXT}`, () => {
    const random = createRandom(seedOf(1));
    const keys = new DelayedKeys();
    const times = new Map<string, number>();
    for (let round = 0; round < 5000; round += 1) {
      const [key, dueMs] = [`key-${Math.floor(random() * 3000)}`, Math.floor(random() * 10_000)];
      keys.add(key, dueMs);
      times.set(key, Math.min(times.get(key) ?? dueMs, dueMs));
    }
    const taken: string[] = [];
    for (let key = keys.takeDue(10_000); key !== undefined; key = keys.takeDue(10_000)) taken.push(key);
    assert.equal(taken.length, times.size);
    const dueOf = taken.map((key) => times.get(key) as number);
    assert.deepEqual(
      dueOf,
      dueOf.toSorted((a, b) => a - b),
    );
  });
});
