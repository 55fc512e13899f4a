/** The claim of an export that no other process can take over, and whose states are not saved. */

import type { ExportClaim } from '../../src/engine/contract.ts';

export const UNCONTESTED_CLAIM: ExportClaim = { assertHeld: async () => {}, saveStates: async () => {} };
