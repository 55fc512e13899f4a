/** Waits for a condition that the program under test brings about. */

import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';

const LIMIT_MS = 20_000;

/** @param what describes the condition, for the message when it does not come true */
export async function until(what: string, isSo: () => boolean | Promise<boolean>, limitMs = LIMIT_MS): Promise<void> {
  const endMs = performance.now() + limitMs;
  while (!(await isSo())) {
    assert.ok(performance.now() < endMs, `waited in vain for: ${what}`);
    await delay(5);
  }
}
