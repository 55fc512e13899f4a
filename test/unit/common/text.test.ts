import assert from 'node:assert/strict';
import { formatDuration } from '../../../src/common/text.ts';

describe('a duration', () => {
  const durations: [seconds: number, text: string][] = [
    [-3, '0s'],
    [0, '0s'],
    [0.4, '0s'],
    [45, '45s'],
    [60, '1m'],
    [750, '12m30s'],
    [3600, '1h'],
    [3605, '1h'],
    [11_520, '3h12m'],
    [360_000, '4d4h'],
    [86_400 * 400, '400d'],
  ];
  for (const [seconds, text] of durations) it(`of ${seconds} seconds is ${text}`, () => assert.equal(formatDuration(seconds * 1000), text));
});
