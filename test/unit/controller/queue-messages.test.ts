import assert from 'node:assert/strict';
import { createQueueMessages } from '../../../src/controller/queue-messages.ts';
import { createSlotQueue, type SlotQueue } from '../../../src/controller/slot-queue.ts';

const COUNT = 10_000;

describe('the messages of exports that wait for a slot', () => {
  function queueOf(count: number, namespaces = 1): SlotQueue {
    const queue = createSlotQueue({ limits: { total: 1, perNamespace: 1e6, perNode: 1e6 }, onGrant: (key) => granted.push(key) });
    for (let index = 0; index <= count; index += 1)
      queue.request(`n${index % namespaces}/${index}`, { namespace: `n${index % namespaces}`, host: 'h', createdMs: index });
    return queue;
  }

  let granted: string[];
  beforeEach(() => {
    granted = [];
  });

  it('say the place and the limit, and that the source is not judged meanwhile', () => {
    const messages = createQueueMessages(queueOf(3));
    const report = messages.reportOf('n0/3');
    assert.partialDeepStrictEqual(report, {
      reason: 'Queued',
      message: 'waits for a slot: 1 export runs at a time; 2 exports come before it',
      sourceReady: { status: 'Unknown' },
    });
    assert.match(messages.reportOf('n0/2')?.message ?? '', /; 1 export comes before it$/);
    assert.match(messages.reportOf('n0/1')?.message ?? '', /; it is the next one$/);
    assert.equal(messages.reportOf('n0/0'), undefined, 'it holds a slot');
    assert.equal(messages.reportOf('n0/3'), undefined, 'it was reported');
    messages.forget('n0/3');
    assert.deepEqual(messages.outdated(), ['n0/3']);
  });

  for (const namespaces of [1, 100])
    it(`of ${COUNT} exports in ${namespaces} namespaces are written 15 times at most while all get their slots`, () => {
      const queue = queueOf(COUNT, namespaces);
      const messages = createQueueMessages(queue);
      const writes = new Map<string, number>();
      const writeAll = () => {
        for (const key of messages.outdated()) if (messages.reportOf(key) !== undefined) writes.set(key, (writes.get(key) ?? 0) + 1);
      };
      writeAll();
      assert.equal(writes.size, COUNT);
      let held = 'n0/0';
      for (let ended = 1; ended <= COUNT; ended += 1) {
        queue.release(held);
        messages.forget(held);
        held = granted.at(-1) as string;
        // The places are looked at every 15 seconds, in which 20 exports end.
        if (ended % 20 === 0) writeAll();
      }
      const counts = [...writes.values()].toSorted((a, b) => b - a);
      assert.ok((counts[0] as number) <= 15, `${counts[0]} writes of one export`);
      assert.ok(counts.reduce((sum, each) => sum + each, 0) <= 13 * COUNT);
    });
});
