/** The waits between the attempts of a disk. */

import type { Backoff } from '../common/retry.ts';

/**
 * Short at first, for a connection that broke. The default backoffLimit of the resource, 8, covers the reboot of a receiver: 22 minutes
 * at least, 32 at most.
 */
export const ATTEMPT_BACKOFF: Backoff = { baseMs: 2000, capMs: 600_000, factor: 3, isIncreasing: true };
