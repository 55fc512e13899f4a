import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { DiskliftError } from '../../../src/common/errors.ts';
import { createPlaces, type Place, type Places } from '../../../src/engine/places.ts';
import { NEVER } from '../../helpers/image-in-process.ts';

describe('places', () => {
  let places: Places;
  let log: string[];
  beforeEach(() => {
    places = createPlaces(1);
    log = [];
  });

  function ask(name: string, place: Place = places.takeTurn(), signal = NEVER): Place {
    place.enter(signal).then(
      () => log.push(`${name} in`),
      (error: DiskliftError) => log.push(`${name} ${error.code}`),
    );
    return place;
  }

  async function leave(place: Place): Promise<void> {
    place.leave();
    await nextTurn();
  }

  it('go to who comes first, so many at a time', async () => {
    places = createPlaces(2);
    const [first] = ['a', 'b', 'c', 'd'].map((name) => ask(name));
    await nextTurn();
    assert.deepEqual([log, places.isWanted()], [['a in', 'b in'], true]);
    await leave(first as Place);
    assert.deepEqual(log, ['a in', 'b in', 'c in']);
  });

  it('go to who has left one before those that have come later, and after those that had come earlier', async () => {
    const [a, b] = [places.takeTurn(), places.takeTurn()];
    const c = ask('c');
    ask('d');
    ask('b', b);
    ask('a', a);
    await leave(c);
    await leave(a);
    await leave(b);
    assert.deepEqual(log, ['c in', 'a in', 'b in', 'd in']);
  });

  it('are given back once, however often', async () => {
    const a = ask('a');
    ask('b');
    ask('c');
    await leave(a);
    await leave(a);
    assert.deepEqual(log, ['a in', 'b in']);
  });

  it('are not waited for by who has left, or was aborted', async () => {
    const cancel = new AbortController();
    const a = ask('a');
    const b = ask('b');
    ask('c', places.takeTurn(), cancel.signal);
    ask('d');
    b.leave();
    cancel.abort(new DiskliftError('Cancelled', 'enough'));
    ask('e', places.takeTurn(), cancel.signal);
    await leave(a);
    assert.deepEqual([log.sort(), places.isWanted()], [['a in', 'c Cancelled', 'd in', 'e Cancelled'], false]);
  });

  it('are not lost when one is given and aborted at the same time', async () => {
    const cancel = new AbortController();
    const a = ask('a');
    ask('b', places.takeTurn(), cancel.signal);
    ask('c');
    await nextTurn();
    a.leave();
    cancel.abort(new DiskliftError('Cancelled', 'enough'));
    await nextTurn();
    assert.deepEqual(log, ['a in', 'b Cancelled', 'c in']);
  });
});
