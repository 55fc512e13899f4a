// Runs alone: it measures its own memory.

import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import v8 from 'node:v8';
import vm from 'node:vm';
import { createWorkQueue, type WorkQueue } from '../../../../src/stores/kubernetes/cache/work-queue.ts';
import { createManualClock, type ManualClock } from '../../../helpers/manual-clock.ts';

/** Bytes in use on the heap after a full garbage collection. */
function heapBytes(): number {
  v8.setFlagsFromString('--expose-gc');
  const collect = vm.runInNewContext('gc') as () => void;
  collect();
  collect();
  return process.memoryUsage().heapUsed;
}

describe('the work queue', () => {
  let clock: ManualClock;
  let end: AbortController;
  let queue: WorkQueue;

  beforeEach(() => {
    clock = createManualClock();
    end = new AbortController();
    queue = createWorkQueue(clock, end.signal);
  });

  afterEach(() => end.abort());

  /** The keys that come without another being added. */
  async function drain(keys: AsyncGenerator<string>): Promise<string[]> {
    const taken: string[] = [];
    const done = (async () => {
      for await (const key of keys) taken.push(key);
    })();
    for (let turn = 0; turn < 20; turn += 1) await nextTurn();
    end.abort();
    await done;
    return taken;
  }

  it('leaks no memory with each wake-up', async () => {
    const WAKES = 20_000;
    let taken = 0;
    const done = (async () => {
      for await (const _key of queue.take(end.signal)) taken += 1;
    })();
    await nextTurn();
    const before = heapBytes();
    for (let wake = 0; wake < WAKES; wake += 1) {
      queue.add('a');
      await nextTurn();
    }
    const perWake = (heapBytes() - before) / WAKES;
    assert.equal(taken, WAKES);
    assert.ok(perWake < 50, `${perWake} bytes`);
    end.abort();
    await done;
  });

  it('gives each key once, in order, however often it is added', async () => {
    for (const key of ['a', 'b', 'a', 'c', 'b']) queue.add(key);
    assert.deepEqual(await drain(queue.take(end.signal)), ['a', 'b', 'c']);
  });

  it('gives urgent keys every second turn, also one that became urgent while it waited', async () => {
    const urgent = new Set(['e', 'f']);
    queue = createWorkQueue(clock, end.signal, (key) => urgent.has(key));
    for (const key of ['a', 'b', 'c', 'd', 'e', 'f']) queue.add(key);
    urgent.add('c');
    queue.add('c');
    urgent.clear();
    queue.add('f');
    assert.deepEqual(await drain(queue.take(end.signal)), ['e', 'a', 'f', 'b', 'c', 'd']);
  });

  it('serves namespaces in turns, although one has many more keys', async () => {
    for (const key of ['a/1', 'a/2', 'a/3', 'a/4', 'b/1', 'c/1', 'b/2', 'a/1']) queue.add(key);
    assert.deepEqual(await drain(queue.take(end.signal)), ['a/1', 'b/1', 'c/1', 'a/2', 'b/2', 'a/3', 'a/4']);
  });

  it('lets timers run while many keys need no call', async () => {
    let handled = 0;
    let handledAtTurn: number | undefined;
    for (let key = 0; key < 100; key += 1) queue.add(`${key}`);
    setImmediate(() => (handledAtTurn ??= handled));
    const done = (async () => {
      for await (const _key of queue.take(end.signal)) {
        handled += 1;
        await clock.advance(1);
      }
    })();
    while (handled < 100) await nextTurn();
    end.abort();
    await done;
    assert.ok(handledAtTurn !== undefined && handledAtTurn <= 11, `${handledAtTurn} keys came first`);
  });

  it('gives an added key to a waiting caller', async () => {
    const next = queue.take(end.signal).next();
    await nextTurn();
    queue.add('a');
    assert.deepEqual(await next, { value: 'a', done: false });
  });

  it('gives a key that is worked on to nobody else, and again when that has ended', async () => {
    const [first, second] = [queue.take(end.signal), queue.take(end.signal)];
    queue.add('a');
    assert.equal((await first.next()).value, 'a');
    queue.add('a');
    queue.add('a');
    queue.add('b');
    assert.equal((await second.next()).value, 'b');
    let isGiven = false;
    const next = second.next().then(({ value }) => {
      isGiven = true;
      return value;
    });
    await nextTurn();
    assert.ok(!isGiven);
    await first.return(undefined);
    assert.equal(await next, 'a');
  });

  it('gives a key again that was added while its work failed', async () => {
    queue.add('a');
    const failing = (async () => {
      for await (const key of queue.take(end.signal)) {
        queue.add(key);
        throw new Error('failed');
      }
    })();
    await assert.rejects(failing, /failed/);
    assert.deepEqual(await drain(queue.take(end.signal)), ['a']);
  });

  it('adds a key when its time has come, at the earliest of several', async () => {
    queue.addAfter('a', 1000);
    queue.addAfter('a', 5000);
    queue.addAfter('a', 300);
    queue.addAfter('b', 200);
    const keys = queue.take(end.signal);
    const next = keys.next();
    await clock.advance(199);
    await clock.advance(1);
    assert.equal((await next).value, 'b');
    const afterB = keys.next();
    await clock.advance(100);
    assert.equal((await afterB).value, 'a');
    await clock.advance(10_000);
    assert.deepEqual(await drain(keys), []);
  });

  it('keeps no timer and little memory for each of many delayed keys', async () => {
    const KEYS = 10_000;
    const before = heapBytes();
    for (let key = 0; key < KEYS; key += 1) queue.addAfter(`namespace-${key % 100}/export-${key}`, 1_000_000 + key);
    const perKey = (heapBytes() - before) / KEYS;
    assert.ok(perKey < 400, `${perKey} bytes`);
  });

  it('ends at once, whatever is to come', async () => {
    queue.addAfter('a', 1000);
    const next = queue.take(end.signal).next();
    end.abort();
    assert.equal((await next).done, true);
    queue.addAfter('b', 1);
    await clock.advance(2000);
  });
});
