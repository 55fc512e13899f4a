/** What a target is given where no engine runs: nothing is asked of it and nothing may be kept. */

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
