/** For exports that nobody else could take over, and whose state nobody keeps. */

import type { ExportKeeper } from '../../src/engine/context.ts';

export const NO_KEEPER: ExportKeeper = { assertHeld: async () => {}, save: async () => {} };
