import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { type BufferPool, createBufferPool, type PooledBuffer } from '../../../src/common/buffers.ts';
import { DiskliftError } from '../../../src/common/errors.ts';
import { NEVER } from '../../helpers/image-in-process.ts';

const MIB = 1024 * 1024;

describe('buffer pool', () => {
  const memoryOf = ({ bytes }: PooledBuffer) => bytes.buffer;

  /** Takes in the background. */
  function ask(pool: BufferPool, sizeBytes: number) {
    const asked: { buffer?: PooledBuffer } = {};
    void pool.take(sizeBytes, NEVER).then((buffer) => {
      asked.buffer = buffer;
    });
    return asked;
  }

  it('gives buffers of the requested size, within its budget', async () => {
    const pool = createBufferPool(12 * MIB);
    const [first, second, third] = [ask(pool, 5 * MIB), ask(pool, 3 * MIB), ask(pool, 1)];
    await nextTurn();
    assert.deepEqual([first.buffer?.bytes.length, second.buffer?.bytes.length, third.buffer], [5 * MIB, 3 * MIB, undefined]);
    second.buffer?.giveBack(true);
    second.buffer?.giveBack(true);
    await nextTurn();
    assert.equal(third.buffer?.bytes.length, 1);
  });

  it('gives the same memory to the next caller, also for another size', async () => {
    const pool = createBufferPool(16 * MIB);
    const [held, first] = [await pool.take(8 * MIB, NEVER), await pool.take(8 * MIB, NEVER)];
    const memory = memoryOf(first);
    first.giveBack(true);
    const second = await pool.take(7 * MIB + 1, NEVER);
    assert.equal(memoryOf(second), memory);
    second.giveBack(true);
    // When nobody holds any the garbage collector may have it, but need not.
    held.giveBack(true);
    const both = [await pool.take(8 * MIB, NEVER), await pool.take(8 * MIB, NEVER)];
    assert.deepEqual(new Set(both.map(memoryOf)), new Set([memory, memoryOf(held)]));
  });

  it('keeps back a buffer that something may still write to', async () => {
    const pool = createBufferPool(16 * MIB);
    await pool.take(8 * MIB, NEVER);
    const first = await pool.take(8 * MIB, NEVER);
    first.giveBack(false);
    assert.notEqual(memoryOf(await pool.take(8 * MIB, NEVER)), memoryOf(first));
  });

  it('keeps idle buffers only within its budget', async () => {
    const pool = createBufferPool(24 * MIB);
    await pool.take(8 * MIB, NEVER);
    const [first, second] = [await pool.take(8 * MIB, NEVER), await pool.take(8 * MIB, NEVER)];
    for (const { giveBack } of [first, second]) giveBack(true);
    (await pool.take(4 * MIB, NEVER)).giveBack(true);
    const third = await pool.take(8 * MIB, NEVER);
    assert.equal(memoryOf(third), memoryOf(second));
    const release = await pool.reserve(8 * MIB, NEVER);
    release();
    assert.ok(![first, second, third].map(memoryOf).includes(memoryOf(await pool.take(8 * MIB, NEVER))));
  });

  it('counts memory that callers allocate', async () => {
    const pool = createBufferPool(16 * MIB);
    const release = await pool.reserve(16 * MIB, NEVER);
    const asked = ask(pool, MIB);
    await nextTurn();
    assert.deepEqual([asked.buffer], [undefined]);
    release();
    release();
    await nextTurn();
    assert.equal(asked.buffer?.bytes.length, MIB);
    assert.equal((await pool.take(12 * MIB, NEVER)).bytes.length, 12 * MIB);
  });

  it('gives nothing to a cancelled caller', async () => {
    const pool = createBufferPool(8 * MIB);
    const held = await pool.take(8 * MIB, NEVER);
    const cancel = new AbortController();
    const waiting = pool.take(8 * MIB, cancel.signal);
    cancel.abort(new DiskliftError('Cancelled', 'enough'));
    await assert.rejects(waiting, /enough/);
    held.giveBack(true);
    assert.equal((await pool.take(8 * MIB, NEVER)).bytes.length, 8 * MIB);
  });

  it('grants a request above its budget when nothing else is taken', async () => {
    const pool = createBufferPool(8 * MIB);
    const held = await pool.take(1, NEVER);
    const asked = ask(pool, 20 * MIB);
    await nextTurn();
    assert.deepEqual([asked.buffer], [undefined]);
    held.giveBack(true);
    await nextTurn();
    assert.equal(asked.buffer?.bytes.length, 20 * MIB);
  });
});
