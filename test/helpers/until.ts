/** Waiting for what comes about by itself, as soon as the parts under test are through. */

import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';

const LIMIT_MS = 20_000;

/** @param what that is waited for, for the message when it does not come */
export async function until(what: string, isSo: () => boolean | Promise<boolean>, limitMs = LIMIT_MS): Promise<void> {
  const endMs = performance.now() + limitMs;
  while (!(await isSo())) {
    assert.ok(performance.now() < endMs, `in vain: ${what}`);
    await delay(5);
  }
}
