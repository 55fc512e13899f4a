import assert from 'node:assert/strict';
import { DiskliftError } from '../../../src/common/errors.ts';
import { backoffDelayMs, MAX_RETRY_AFTER_MS, parseRetryAfter, type RetryOptions, retry } from '../../../src/common/retry.ts';
import { NEVER } from '../../helpers/image-in-process.ts';
import { createTestClock } from '../../helpers/test-clock.ts';

const BACKOFF = { baseMs: 1000, capMs: 60_000 };
const ALMOST_ONE = 1 - Number.EPSILON;

describe('backoff', () => {
  it('waits for a random time up to a bound that doubles with each failure', () => {
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

  it('covers a known time with increasing waits, each at least as long as the bound of the wait before', () => {
    const backoff = { baseMs: 2000, capMs: 20_000, factor: 3, isIncreasing: true };
    const delays = (random: number) => [1, 2, 3, 4, 5].map((failedAttempts) => backoffDelayMs(backoff, { failedAttempts }, () => random));
    assert.deepEqual(delays(0), [0, 2000, 6000, 18_000, 20_000]);
    assert.deepEqual(delays(0.5), [1000, 4000, 12_000, 19_000, 20_000]);
  });

  it('waits at least as long as the peer requires, even beyond the cap', () => {
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

describe('retry', () => {
  const away = (retryAfterMs?: number) => new DiskliftError('StoreUnavailable', 'no answer', undefined, { retryAfterMs });

  /** Runs a task that fails with each of `failures` in turn and then returns the number of its calls. */
  async function retried(failures: Error[], options: Partial<RetryOptions> = {}) {
    const clock = createTestClock();
    let calls = 0;
    const task = async () => {
      calls += 1;
      const failure = failures[calls - 1];
      if (failure !== undefined) throw failure;
      return calls;
    };
    const outcome = await retry(task, {
      isRetryable: () => true,
      backoff: BACKOFF,
      clock,
      random: () => 0.5,
      signal: NEVER,
      ...options,
    }).catch((error: unknown) => error);
    return { outcome, calls, delaysMs: clock.delaysMs };
  }

  it('repeats a task until it succeeds, and waits longer each time', async () => {
    assert.deepEqual(await retried([away(), away(), away()]), { outcome: 4, calls: 4, delaysMs: [500, 1000, 2000] });
  });

  it('waits as long as the peer requires, unless that exceeds the limit of a wait', async () => {
    assert.deepEqual((await retried([away(7000)])).delaysMs, [7000]);
    assert.deepEqual((await retried([away(7000)], { maxDelayMs: 3000 })).delaysMs, [3000]);
  });

  it('throws a failure that is not retryable, and counts the failures for that', async () => {
    const failures = [away(), away(), away()];
    const { outcome, calls } = await retried(failures, { isRetryable: (_, failedAttempts) => failedAttempts < 2 });
    assert.deepEqual([outcome, calls], [failures[1], 2]);
  });

  it('begins no try after its time limit', async () => {
    const failures = [away(), away(), away()];
    const { outcome, delaysMs } = await retried(failures, { limitMs: 1600 });
    assert.deepEqual([outcome, delaysMs], [failures[2], [500, 1000]]);
  });

  it('reports each failure before the wait, and ends with the reason of an abort', async () => {
    const abort = new AbortController();
    const reason = new DiskliftError('Cancelled', 'enough');
    const reported: number[] = [];
    const onRetry = (_: unknown, failedAttempts: number) => {
      reported.push(failedAttempts);
      if (failedAttempts === 2) abort.abort(reason);
    };
    const { outcome, calls } = await retried([away(), away(), away()], { signal: abort.signal, onRetry });
    assert.deepEqual([outcome, calls, reported], [reason, 2, [1, 2]]);
  });
});

const NOW_MS = Date.UTC(2026, 0, 1);

describe('Retry-After', () => {
  const table: [string | undefined, number | undefined][] = [
    [undefined, undefined],
    ['7', 7000],
    [' 900 ', 900_000],
    ['901', MAX_RETRY_AFTER_MS],
    ['99999999', MAX_RETRY_AFTER_MS],
    ['9'.repeat(400), MAX_RETRY_AFTER_MS],
    [new Date(NOW_MS + 60_000).toUTCString(), 60_000],
    [new Date(NOW_MS + 86_400_000).toUTCString(), MAX_RETRY_AFTER_MS],
    [new Date(NOW_MS - 60_000).toUTCString(), 0],
    ['soon', undefined],
    ['-5', undefined],
  ];
  for (const [value, expected] of table)
    it(`is ${expected} ms for ${JSON.stringify(value?.slice(0, 40))}`, () => {
      assert.equal(parseRetryAfter(value, NOW_MS), expected);
    });

  it('counts for at most 15 minutes', () => {
    assert.equal(MAX_RETRY_AFTER_MS, 15 * 60_000);
  });
});
