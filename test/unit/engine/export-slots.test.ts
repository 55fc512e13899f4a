import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { DiskliftError } from '../../../src/common/errors.ts';
import { createExportSlots, type ExportSlots, type Slot } from '../../../src/engine/export-slots.ts';
import { NEVER } from '../../helpers/image-in-process.ts';

describe('slots', () => {
  let slots: ExportSlots;
  let log: string[];
  beforeEach(() => {
    slots = createExportSlots({ total: 1 });
    log = [];
  });

  function ask(name: string, slot: Slot = slots.reserve('host'), signal = NEVER): Slot {
    slot.acquire(signal).then(
      () => log.push(`${name} in`),
      (error: DiskliftError) => log.push(`${name} ${error.code}`),
    );
    return slot;
  }

  const askAt = (host: string, ...names: string[]) => names.map((name) => ask(name, slots.reserve(host)));

  async function release(slot: Slot): Promise<void> {
    slot.release();
    await nextTurn();
  }

  it('go to the exports that come first, as many as there are', async () => {
    slots = createExportSlots({ total: 2 });
    const all = ['a', 'b', 'c', 'd'].map((name) => ask(name));
    await nextTurn();
    assert.deepEqual(
      [log, all.map((slot) => slot.waitsFor())],
      [
        ['a in', 'b in'],
        [undefined, undefined, 'slot', 'slot'],
      ],
    );
    await release(all[0] as Slot);
    assert.deepEqual(log, ['a in', 'b in', 'c in']);
  });

  it('go to an export that gave one back before those that came later, and after those that came earlier', async () => {
    const [a, b] = [slots.reserve('host'), slots.reserve('host')];
    const c = ask('c');
    ask('d');
    ask('b', b);
    ask('a', a);
    await release(c);
    await release(a);
    await release(b);
    assert.deepEqual(log, ['c in', 'a in', 'b in', 'd in']);
  });

  it('are free for others during a pause', async () => {
    const a = ask('a');
    const b = ask('b');
    ask('c');
    a.pause();
    await nextTurn();
    ask('a again', a);
    await release(b);
    await release(a);
    assert.deepEqual(log, ['a in', 'b in', 'a again in', 'c in']);
  });

  it('are given back once, although the export gives its slot back twice', async () => {
    const a = ask('a');
    ask('b');
    ask('c');
    await release(a);
    await release(a);
    assert.deepEqual(log, ['a in', 'b in']);
  });

  it('are not waited for by an export that has ended, or was aborted', async () => {
    const cancel = new AbortController();
    const a = ask('a');
    const b = ask('b');
    ask('c', slots.reserve('host'), cancel.signal);
    ask('d');
    b.release();
    cancel.abort(new DiskliftError('Cancelled', 'enough'));
    ask('e', slots.reserve('host'), cancel.signal);
    await release(a);
    assert.deepEqual(log.sort(), ['a in', 'c Cancelled', 'd in', 'e Cancelled']);
  });

  it('are not lost when one is given and aborted at the same time', async () => {
    const cancel = new AbortController();
    const a = ask('a');
    ask('b', slots.reserve('host'), cancel.signal);
    ask('c');
    await nextTurn();
    a.release();
    cancel.abort(new DiskliftError('Cancelled', 'enough'));
    await nextTurn();
    assert.deepEqual(log, ['a in', 'b Cancelled', 'c in']);
  });

  describe('for one host', () => {
    it('are limited, and an export that waits for its host does not hold up those behind it', async () => {
      slots = createExportSlots({ total: 3, perHost: 1 });
      const [first, second] = askAt('one', 'a', 'b') as [Slot, Slot];
      askAt('two', 'c', 'd');
      askAt('three', 'e');
      await nextTurn();
      assert.deepEqual([log, second.waitsFor()], [['a in', 'c in', 'e in'], 'slot']);
      await release(first);
      assert.deepEqual([log.at(-1), second.waitsFor()], ['b in', undefined]);
    });

    it('are the reason of the wait when another slot is free', async () => {
      slots = createExportSlots({ total: 2, perHost: 1 });
      const [, second] = askAt('one', 'a', 'b') as [Slot, Slot];
      await nextTurn();
      assert.equal(second.waitsFor(), 'host');
    });

    it('may be all slots, but all but one while the host fails', async () => {
      slots = createExportSlots({ total: 2 });
      const [a, b, , d] = askAt('dead', 'a', 'b', 'c', 'd') as [Slot, Slot, Slot, Slot];
      askAt('alive', 'e');
      await nextTurn();
      assert.deepEqual(log, ['a in', 'b in']);
      a.setHostFailing(true);
      a.pause();
      await nextTurn();
      assert.deepEqual(log, ['a in', 'b in', 'e in'], 'the slot goes to the other host');
      b.pause();
      await nextTurn();
      assert.equal(log.at(-1), 'c in', 'the dead host keeps one slot for attempts');
      assert.equal(d.waitsFor(), 'slot');
      b.setHostFailing(false);
      askAt('alive', 'f');
      await nextTurn();
      assert.equal(log.length, 4);
    });

    it('go to another host first when the host fails, also where there is one slot only', async () => {
      const [a, b] = askAt('dead', 'a', 'b') as [Slot, Slot];
      const [c] = askAt('alive', 'c') as [Slot];
      await nextTurn();
      assert.equal(a.holdsUpOthers(), false);
      a.setHostFailing(true);
      assert.equal(a.holdsUpOthers(), true);
      a.pause();
      await nextTurn();
      assert.deepEqual([log, b.holdsUpOthers()], [['a in', 'c in'], false]);
      ask('a again', a);
      await release(c);
      assert.deepEqual(log, ['a in', 'c in', 'a again in']);
    });

    it('keep one for attempts where there is no other, although the host fails', async () => {
      const [a] = askAt('dead', 'a', 'b') as [Slot];
      a.setHostFailing(true);
      await release(a);
      assert.deepEqual(log, ['a in', 'b in']);
    });

    it('are all there again when the last export to a failing host has ended', async () => {
      slots = createExportSlots({ total: 2 });
      const [a] = askAt('dead', 'a') as [Slot];
      a.setHostFailing(true);
      await release(a);
      askAt('dead', 'b', 'c');
      await nextTurn();
      assert.deepEqual(log, ['a in', 'b in', 'c in']);
    });
  });

  it('let as many exports keep their disks open in a wait as there are slots', async () => {
    slots = createExportSlots({ total: 2 });
    const [a, b, c, d] = ['a', 'b', 'c', 'd'].map((name) => ask(name)) as [Slot, Slot, Slot, Slot];
    await nextTurn();
    assert.deepEqual(
      [a, b, c, d, a].map((slot) => slot.pauseOpen()),
      [true, true, false, false, true],
    );
    ask('a again', a);
    b.release();
    await nextTurn();
    assert.deepEqual(
      [c, d].map((slot) => slot.pauseOpen()),
      [true, true],
      'an export that has a slot again, or has ended, makes room',
    );
  });
});
