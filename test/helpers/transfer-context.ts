/**
 * The context of a transfer without an engine: by default nothing aborts it, and a target that saves a resume state
 * fails.
 */

import assert from 'node:assert/strict';
import type { TransferContext } from '../../src/targets/contract.ts';
import { NEVER } from './image-in-process.ts';

export function transferContext(changes: Partial<TransferContext> = {}): TransferContext {
  return {
    signal: NEVER,
    saveResume: async () => assert.fail('a target without resume has saved something'),
    progress: () => {},
    seal: async () => ({}),
    ...changes,
  };
}
