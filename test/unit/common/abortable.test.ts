import assert from 'node:assert/strict';
import { abortable } from '../../../src/common/abortable.ts';
import { DiskliftError } from '../../../src/common/errors.ts';

describe('abortable', () => {
  it('leaves a hanging operation behind as soon as the signal is aborted', async () => {
    const controller = new AbortController();
    const hung = new Promise<never>(() => {});
    setTimeout(() => controller.abort(), 10);
    await assert.rejects(abortable(hung, controller.signal), { code: 'Cancelled' });
  });

  it('rejects with the typed reason of the abort', async () => {
    const reason = new DiskliftError('Cancelled', 'cancelled by SIGINT');
    await assert.rejects(abortable(Promise.reject(new Error('late')), AbortSignal.abort(reason)), reason);
  });

  it('passes results and errors on, and leaves no listener behind', async () => {
    const { signal } = new AbortController();
    let listeners = 0;
    const { addEventListener, removeEventListener } = signal;
    signal.addEventListener = (...parameters: Parameters<typeof addEventListener>) => {
      listeners += 1;
      addEventListener.apply(signal, parameters);
    };
    signal.removeEventListener = (...parameters: Parameters<typeof removeEventListener>) => {
      listeners -= 1;
      removeEventListener.apply(signal, parameters);
    };
    assert.equal(await abortable(Promise.resolve(7), signal), 7);
    await assert.rejects(abortable(Promise.reject(new Error('broken')), signal), /broken/);
    await new Promise(setImmediate);
    assert.equal(listeners, 0);
  });
});
