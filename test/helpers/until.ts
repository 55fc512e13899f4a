/** Waits for a condition that the program under test brings about. */

import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';

const LIMIT_MS = 20_000;
const [MIN_PAUSE_MS, MAX_PAUSE_MS] = [5, 500];

/** @param what describes the condition, for the message when it does not come true */
export async function until(what: string, isSo: () => boolean | Promise<boolean>, limitMs = LIMIT_MS): Promise<void> {
  const endMs = performance.now() + limitMs;
  for (;;) {
    const startMs = performance.now();
    if (await isSo()) return;
    assert.ok(performance.now() < endMs, `waited in vain for: ${what}`);
    // A look that starts programs, such as kubectl, would take the processor from the program under test.
    await delay(Math.min(MAX_PAUSE_MS, Math.max(MIN_PAUSE_MS, performance.now() - startMs)));
  }
}
