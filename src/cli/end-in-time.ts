/** Ends a command soon after a signal, even while its calls hang. */

import { settleWithin } from '../common/time-limit.ts';
import type { CommandContext } from '../wiring/context.ts';

/** Commands write their last bytes in this time, and close what they have open. */
const END_MS = 900;

/** For commands that abort uploads: eight seconds at most, and what comes behind that. */
export const ABANDON_MS = 9500;

/** @param work the command. @param graceMs time that it gets after a signal @throws the failure of `work`; the signal's reason */
export function endInTime(
  { signal, clock }: Pick<CommandContext, 'signal' | 'clock'>,
  work: () => Promise<void>,
  graceMs = END_MS,
): Promise<void> {
  return settleWithin(work(), { signal, clock, graceMs });
}
