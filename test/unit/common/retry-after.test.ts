import assert from 'node:assert/strict';
import { MAX_RETRY_AFTER_MS, parseRetryAfter } from '../../../src/common/retry-after.ts';

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
    it(`of ${JSON.stringify(value?.slice(0, 40))} is ${expected} ms`, () => {
      assert.equal(parseRetryAfter(value, NOW_MS), expected);
    });

  it('never asks for more than 15 minutes', () => {
    assert.equal(MAX_RETRY_AFTER_MS, 15 * 60_000);
  });
});
