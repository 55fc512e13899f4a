/** Tests of a destination whose server may not be installed. */

import assert from 'node:assert/strict';
import type { Destination } from './destination.ts';

/**
 * Skips a suite with one loud line where the destination's server is not there; fails it in CI. Call it in `before`.
 */
export function requireDestination({ name, isThere }: Destination, context: Mocha.Context): void {
  if (isThere?.() !== false) return;
  if (process.env.CI) assert.fail(`tests with ${name} cannot run: make judges installs its server where Go is`);
  console.error(`    SKIPPED: tests with ${name}: make judges installs its server where Go is`);
  context.skip();
}
