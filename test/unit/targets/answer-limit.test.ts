import assert from 'node:assert/strict';
import { answerLimitMs } from '../../../src/network/answer-limits.ts';

describe('limit of an answer', () => {
  it('gives a receiver an hour, and more for a larger disk that it may have to write again', () => {
    assert.equal(answerLimitMs({ virtualSizeBytes: 0 }), 3_600_000);
    assert.equal(answerLimitMs({ virtualSizeBytes: 10 ** 12 }), 3_600_000 + 100_000_000);
  });
});
