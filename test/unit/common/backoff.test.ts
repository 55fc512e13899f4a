import assert from 'node:assert/strict';
import { backoffDelayMs } from '../../../src/common/backoff.ts';

const BACKOFF = { baseMs: 1000, capMs: 60_000 };
const ALMOST_ONE = 1 - Number.EPSILON;

describe('backoff', () => {
  it('takes anything up to a ceiling that doubles with each failure', () => {
    const longest = (failedAttempts: number) => backoffDelayMs(BACKOFF, { failedAttempts }, () => ALMOST_ONE);
    assert.deepEqual([1, 2, 3, 4].map(longest), [999, 1999, 3999, 7999]);
    assert.equal(
      backoffDelayMs(BACKOFF, { failedAttempts: 4 }, () => 0),
      0,
    );
    assert.equal(
      backoffDelayMs(BACKOFF, { failedAttempts: 4 }, () => 0.25),
      2000,
    );
  });

  it('does not grow beyond the cap, however many failures there were', () => {
    for (const failedAttempts of [7, 100, 5000])
      assert.equal(
        backoffDelayMs(BACKOFF, { failedAttempts }, () => 0.5),
        30_000,
      );
  });

  it('waits at least as long as the peer has asked for, even beyond the cap', () => {
    assert.equal(
      backoffDelayMs(BACKOFF, { failedAttempts: 1, retryAfterMs: 90_000 }, () => 0.5),
      90_000,
    );
    assert.equal(
      backoffDelayMs(BACKOFF, { failedAttempts: 3, retryAfterMs: 100 }, () => 0.5),
      2000,
    );
  });
});
