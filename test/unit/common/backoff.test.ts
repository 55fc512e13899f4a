import assert from 'node:assert/strict';
import { backoffDelayMs, coveredMs } from '../../../src/common/backoff.ts';

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

  it('where waits increase, takes at least what the wait before could take, so that waits cover a known time', () => {
    const backoff = { baseMs: 2000, capMs: 20_000, factor: 3, isIncreasing: true };
    const delays = (random: number) => [1, 2, 3, 4, 5].map((failedAttempts) => backoffDelayMs(backoff, { failedAttempts }, () => random));
    assert.deepEqual(delays(0), [0, 2000, 6000, 18_000, 20_000]);
    assert.deepEqual(delays(0.5), [1000, 4000, 12_000, 19_000, 20_000]);
    assert.equal(coveredMs(backoff, 5), 46_000);
    assert.equal(coveredMs(backoff, 0), 0);
    assert.equal(coveredMs(BACKOFF, 5), 0, 'waits that may all be nothing');
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
