/** The default backoffLimit of the resource, and what its description says of the time that it covers. */

import assert from 'node:assert/strict';
import { backoffDelayMs } from '../../../src/common/retry.ts';
import { ATTEMPT_BACKOFF } from '../../../src/engine/run-export.ts';
import { readCrdSchema } from '../../tools/generate-types.ts';

/** As long as the firmware checks, the boot and the start of services of a large server take. */
const MIN_COVERED_MS = 20 * 60_000;

const crd = readCrdSchema(process.cwd()).properties?.spec?.properties?.backoffLimit ?? assert.fail('has no backoffLimit');

/** @returns the shortest time that the first `waits` waits can take together */
function coveredMs(waits: number): number {
  const delays = Array.from({ length: waits }, (_, index) => backoffDelayMs(ATTEMPT_BACKOFF, { failedAttempts: index + 1 }, () => 0));
  return delays.reduce((sum, delayMs) => sum + delayMs, 0);
}

describe('the waits between attempts', () => {
  const limit = crd.default as number;

  it('cover the reboot of a receiver by default', () => {
    assert.ok(coveredMs(limit) >= MIN_COVERED_MS, `${coveredMs(limit)} ms`);
  });

  it('take as long as the description says', () => {
    const minutes = (ms: number) => Math.floor(ms / 60_000);
    const minMs = coveredMs(limit);
    // No wait is longer than the minimum of the next one.
    const maxMs = coveredMs(limit + 1);
    assert.ok(crd.description?.includes(`${limit} waits take ${minutes(minMs)} to ${minutes(maxMs)} minutes`), crd.description);
    assert.ok(crd.description?.includes(`from ${ATTEMPT_BACKOFF.baseMs / 1000} seconds to ${ATTEMPT_BACKOFF.capMs / 60_000} minutes`));
  });
});
