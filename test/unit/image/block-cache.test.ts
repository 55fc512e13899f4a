import assert from 'node:assert/strict';
import { createBlockCache } from '../../../src/image/verify.ts';

const KEPT_BLOCKS = 8;

describe('the block cache', () => {
  it('does not reuse the buffer of a load that is still ending', async () => {
    const buffers: Uint8Array[] = [];
    const loads: PromiseWithResolvers<void>[] = [];
    const cache = createBlockCache((_block, buffer) => {
      buffers.push(buffer);
      const load = Promise.withResolvers<void>();
      loads.push(load);
      return load.promise;
    });
    const abort = new AbortController();
    const left = cache.use(0, abort.signal, () => assert.fail());
    abort.abort();
    await assert.rejects(left);
    const never = new AbortController().signal;
    for (let block = 1; block <= 2 * KEPT_BLOCKS; block += 1) {
      const used = cache.use(block, never, () => {});
      loads[block]?.resolve();
      await used;
    }
    assert.ok(buffers.slice(1).every((buffer) => buffer !== buffers[0]));
    assert.equal(new Set(buffers.slice(1)).size, KEPT_BLOCKS - 1, 'buffers of blocks that are loaded are used again');
  });
});
