import assert from 'node:assert/strict';
import { createSlotQueue, type SlotLimits, type SlotQueue } from '../../../src/controller/slot-queue.ts';
import { createRandom, SEED_TEXT, seedOf } from '../../helpers/seed.ts';

const UNLIMITED: SlotLimits = { total: 1e6, perNamespace: 1e6, perNode: 1e6 };

interface Asked {
  host?: string;
  node?: string;
  createdMs?: number;
}

describe('the queue for slots', () => {
  let granted: string[];
  let queue: SlotQueue;
  let created: number;

  function create(limits: Partial<SlotLimits>): void {
    granted = [];
    created = 0;
    queue = createSlotQueue({ limits: { ...UNLIMITED, ...limits }, onGrant: (key) => granted.push(key) });
  }

  /** @param key NAMESPACE/NAME; later ones are younger, unless they say otherwise */
  function request(key: string, { host = 'images.example', node, createdMs }: Asked = {}): boolean {
    created += 1;
    return queue.request(key, { namespace: key.split('/')[0] as string, host, node, createdMs: createdMs ?? created });
  }

  const requestAll = (...keys: string[]) => keys.map((key) => request(key));

  it('grants a slot at once while one is free, without a call of onGrant', () => {
    create({ total: 2 });
    assert.deepEqual(requestAll('a/1', 'a/2', 'a/3'), [true, true, false]);
    assert.deepEqual([granted, queue.heldCount, queue.waitingCount, queue.isIdle('a')], [[], 2, 1, false]);
    assert.deepEqual([queue.holds('a/1'), queue.waits('a/1'), queue.holds('a/3'), queue.waits('a/3')], [true, false, false, true]);
  });

  it('gives a free slot to the oldest export of the namespace that holds the fewest', () => {
    create({ total: 3 });
    requestAll('a/1', 'a/2', 'a/3', 'a/4', 'b/2');
    request('b/1', { createdMs: 0 });
    queue.release('a/1');
    queue.release('a/2');
    assert.deepEqual(granted, ['b/1', 'a/4']);
    queue.release('a/3');
    assert.deepEqual(granted, ['b/1', 'a/4', 'b/2']);
  });

  it('serves namespaces in turns although one of them has many more exports', () => {
    create({ total: 1 });
    requestAll('big/0', ...Array.from({ length: 50 }, (_, index) => `big/${100 + index}`), 'small/1', 'small/2');
    for (const key of ['big/0', 'small/1', 'big/100', 'small/2', 'big/101']) queue.release(key);
    assert.deepEqual(granted, ['small/1', 'big/100', 'small/2', 'big/101', 'big/102']);
  });

  for (const [limit, first, second, other, words] of [
    ['perNamespace', 'a/1', 'a/2', 'b/1', '1 export of one namespace runs at a time'],
    ['perHost', 'a/1', 'a/2', 'b/other-host', '1 export to images.example runs at a time'],
    ['perNode', 'a/1', 'a/2', 'b/other-node', '1 export on the node node-a runs at a time'],
  ] as const)
    it(`holds an export back by the limit ${limit}, says why, and lets others pass`, () => {
      create({ total: 10, [limit]: 1 });
      const node = limit === 'perNode' ? { node: 'node-a' } : {};
      assert.equal(request(first, node), true);
      assert.equal(request(second, node), false);
      assert.equal(queue.reasonOf(second), words);
      assert.equal(request(other, { host: limit === 'perHost' ? 'other.example' : 'images.example' }), true);
      assert.deepEqual(granted, []);
      queue.release(first);
      assert.deepEqual(granted, [second]);
    });

  it('looks past 15 blocked exports of a namespace, and not past 16', () => {
    for (const blocked of [15, 16]) {
      create({ perHost: 1 });
      requestAll('a/0', ...Array.from({ length: blocked }, (_, index) => `a/${100 + index}`));
      assert.equal(request('a/free', { host: 'other.example' }), blocked === 15, `${blocked} are blocked`);
    }
  });

  it('looks into other namespaces when the first one is blocked whole', () => {
    create({ total: 3, perHost: 1 });
    requestAll('b/0', 'a/1', 'a/2');
    request('b/1', { host: 'other.example' });
    assert.equal(queue.holds('b/1'), true);
  });

  it('lets an adopted export hold a slot beyond every limit, and grants none before the count is below the limit', () => {
    create({ total: 1 });
    requestAll('a/1', 'a/2');
    queue.adopt('a/2', { namespace: 'a', host: 'images.example', createdMs: 1 });
    queue.adopt('a/2', { namespace: 'a', host: 'images.example', createdMs: 1 });
    request('a/3');
    assert.deepEqual([queue.heldCount, queue.waitingCount], [2, 1]);
    queue.release('a/1');
    assert.deepEqual(granted, []);
    queue.release('a/2');
    assert.deepEqual(granted, ['a/3']);
  });

  it('counts an export on the node where the scheduler has put it', () => {
    create({ perNode: 1 });
    request('a/1', { node: 'node-a' });
    request('a/2', { node: 'node-a' });
    queue.place('a/1', 'node-b');
    assert.deepEqual(granted, ['a/2']);
    assert.equal(request('a/3', { node: 'node-b' }), false);
    queue.place('a/none', 'node-a');
    queue.release('a/1');
    assert.deepEqual(granted, ['a/2', 'a/3']);
  });

  it('forgets an export that is released while it waits, and ignores an unknown one', () => {
    create({ total: 1 });
    requestAll('a/1', 'a/2', 'a/3');
    queue.release('a/2');
    queue.release('x/1');
    queue.release('a/1');
    assert.deepEqual([granted, queue.ahead('a/2'), queue.waits('a/2')], [['a/3'], undefined, false]);
    queue.release('a/3');
    assert.deepEqual([queue.heldCount, queue.isIdle('a'), queue.oldestWaitingMs()], [0, true, undefined]);
  });

  it('knows the oldest export that waits', () => {
    create({ total: 0 });
    request('a/1', { createdMs: 500 });
    request('b/1', { createdMs: 300 });
    request('b/2', { createdMs: 400 });
    assert.equal(queue.oldestWaitingMs(), 300);
    assert.deepEqual(queue.waiting(), ['a/1', 'b/1', 'b/2']);
  });

  it(`counts as many exports ahead as are granted before, in 200 random queues ${SEED_TEXT}`, () => {
    for (let run = 0; run < 200; run += 1) {
      const random = createRandom(seedOf(run));
      const pick = (count: number) => Math.floor(random() * count);
      const limits: { -readonly [Key in keyof SlotLimits]: SlotLimits[Key] } = { ...UNLIMITED, total: pick(12) };
      create({});
      queue = createSlotQueue({ limits, onGrant: (key) => granted.push(key) });
      const namespaces = 1 + pick(6);
      for (let index = 0; index < 40; index += 1) {
        request(`n${pick(namespaces)}/${index}`, { createdMs: pick(30) });
        if (pick(4) === 0) queue.release(`n${pick(namespaces)}/${pick(index + 1)}`);
      }
      granted.length = 0;
      const waiting = queue.waiting();
      const ahead = new Map(waiting.map((key) => [key, queue.ahead(key)]));
      // All slots are free now, one after the other.
      limits.total = 1e6;
      request('other/last', { createdMs: 1e6 });
      const order = granted.filter((key) => waiting.includes(key));
      assert.equal(order.length, waiting.length);
      assert.deepEqual(waiting, order);
      for (const [index, key] of order.entries()) assert.equal(ahead.get(key), index, `run ${run}: ${key} in ${order}`);
    }
  });

  it(`never exceeds a limit, and never leaves a slot free that an export could have, in 100 random traces ${SEED_TEXT}`, () => {
    for (let run = 0; run < 100; run += 1) {
      const random = createRandom(seedOf(1000 + run));
      const pick = (count: number) => Math.floor(random() * count);
      const limits = { total: 1 + pick(6), perNamespace: 1 + pick(3), perNode: 1 + pick(2), perHost: 1 + pick(4) };
      create(limits);
      const facts = new Map<string, { namespace: string; host: string; node: string }>();
      for (let step = 0; step < 120; step += 1) {
        if (pick(3) > 0) {
          const [namespace, host, node] = [`n${pick(4)}`, `h${pick(3)}`, `node-${pick(3)}`];
          const key = `${namespace}/${step}`;
          facts.set(key, { namespace, host, node });
          request(key, { host, node });
        } else {
          const held = [...facts.keys()].filter((key) => queue.holds(key));
          queue.release(held[pick(held.length)] ?? 'x/1');
        }
        const held = [...facts].filter(([key]) => queue.holds(key)).map(([, each]) => each);
        const count = (field: 'namespace' | 'host' | 'node', value: string) => held.filter((each) => each[field] === value).length;
        assert.ok(held.length <= limits.total && queue.heldCount === held.length);
        const isFree = ({ namespace, host, node }: (typeof held)[number]) =>
          held.length < limits.total &&
          count('namespace', namespace) < limits.perNamespace &&
          count('host', host) < limits.perHost &&
          count('node', node) < limits.perNode;
        for (const { namespace, host, node } of held) {
          assert.ok(count('namespace', namespace) <= limits.perNamespace && count('host', host) <= limits.perHost);
          assert.ok(count('node', node) <= limits.perNode);
        }
        const waiting = [...facts].filter(([key]) => queue.waits(key));
        if (waiting.length <= 16)
          assert.deepEqual(
            waiting.filter(([, each]) => isFree(each)),
            [],
            `run ${run}, step ${step}`,
          );
      }
    }
  });

  it('answers for 10,000 exports of 1000 namespaces in less than a second', () => {
    create({ total: 100 });
    for (let index = 0; index < 10_000; index += 1) request(`n${index % 1000}/${index}`);
    const startMs = performance.now();
    for (let index = 0; index < 100; index += 1) queue.release(`n${index}/${index}`);
    assert.equal(granted.length, 100);
    for (const key of queue.waiting().slice(0, 1000)) queue.ahead(key);
    assert.ok(performance.now() - startMs < 1000, `${performance.now() - startMs} ms`);
  });
});
