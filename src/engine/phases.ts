/** The phases of one disk's export, as a table of what may follow what. */

export type Phase = 'Pending' | 'Scanning' | 'Streaming' | 'Verifying' | 'Succeeded' | 'Failed' | 'Cancelled';

const ENDS = ['Failed', 'Cancelled'] as const;

/** An attempt that failed and will be made again is Pending. Where the disk has been scanned already, the next one sends at once. */
const NEXT: Readonly<Record<Phase, readonly Phase[]>> = {
  Pending: ['Scanning', 'Streaming', 'Pending', ...ENDS],
  Scanning: ['Streaming', 'Pending', ...ENDS],
  Streaming: ['Verifying', 'Pending', ...ENDS],
  Verifying: ['Succeeded', 'Pending', ...ENDS],
  Succeeded: [],
  Failed: [],
  Cancelled: [],
};

/** @returns `to` @throws RangeError where the table does not know the step: a mistake of this program, not of its user */
export function step(from: Phase, to: Phase): Phase {
  if (!NEXT[from].includes(to)) throw new RangeError(`an export cannot go from ${from} to ${to}`);
  return to;
}

/** Whether nothing can follow. */
export function isFinal(phase: Phase): boolean {
  return NEXT[phase].length === 0;
}
