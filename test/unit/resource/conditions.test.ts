import assert from 'node:assert/strict';
import { setCondition } from '../../../src/resource/status.ts';

const FIRST = Date.UTC(2026, 0, 1, 12, 0, 0, 999);
const LATER = FIRST + 60_000;
const SUCCEEDED = { type: 'Succeeded', status: 'Unknown', reason: 'Claimed', message: 'begun' } as const;

describe('setCondition', () => {
  it('adds a condition that is new, with the time in whole seconds', () => {
    const conditions = setCondition([], SUCCEEDED, { observedGeneration: 2, nowMs: FIRST });
    assert.deepEqual(conditions, [{ ...SUCCEEDED, observedGeneration: 2, lastTransitionTime: '2026-01-01T12:00:00Z' }]);
  });

  it('moves the time of the transition only when the status becomes another', () => {
    const first = setCondition([], SUCCEEDED, { nowMs: FIRST });
    const [sameStatus] = setCondition(first, { ...SUCCEEDED, reason: 'Streaming', message: 'sent 1' }, { nowMs: LATER });
    assert.partialDeepStrictEqual(sameStatus, { reason: 'Streaming', message: 'sent 1', lastTransitionTime: '2026-01-01T12:00:00Z' });
    const [other] = setCondition(first, { ...SUCCEEDED, status: 'True' }, { nowMs: LATER });
    assert.partialDeepStrictEqual(other, { status: 'True', lastTransitionTime: '2026-01-01T12:01:00Z' });
  });

  it('gives a time to a condition of a new object, which has none, or the epoch by earlier versions of the CRD', () => {
    const { type, status, reason, message } = SUCCEEDED;
    for (const old of [{}, { lastTransitionTime: '1970-01-01T00:00:00Z' }]) {
      const [condition] = setCondition([{ type, status, reason, message, ...old }], SUCCEEDED, { nowMs: FIRST });
      assert.equal(condition?.lastTransitionTime, '2026-01-01T12:00:00Z');
    }
  });

  it('leaves the other conditions and what it was given as they are', () => {
    const finished = { type: 'Finished', status: 'False', reason: 'Claimed', message: '' } as const;
    const before = setCondition(setCondition([], finished, { nowMs: FIRST }), SUCCEEDED, { nowMs: FIRST });
    const copy = structuredClone(before);
    const after = setCondition(before, { ...finished, status: 'True' }, { nowMs: LATER });
    assert.deepEqual(before, copy);
    assert.deepEqual(after[1], before[1]);
    assert.deepEqual(
      after.map(({ type }) => type),
      ['Finished', 'Succeeded'],
    );
  });
});
