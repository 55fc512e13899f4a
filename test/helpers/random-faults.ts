/** Random faults, which are the same for the same random numbers. */

import type { Direction, Fault } from './fault-proxy.ts';

const MIB = 1024 * 1024;

const KINDS = ['reset', 'reset', 'stall', 'stall', 'slow'] as const;
const ENDS = ['end', 'end'] as const;
const CORRUPTIONS = ['corrupt', 'corrupt'] as const;

export interface RandomFaultOptions {
  /** Returns numbers from 0 to below 1. */
  random(): number;
  /** The minimum number of bytes that an attempt without faults sends. */
  sizeBytes: number;
  /** Whether the destination detects a flipped bit: otherwise the test cannot flip one. */
  findsCorruption: boolean;
  /** Whether an orderly end by a proxy cannot look like the peer's: otherwise it looks like success. */
  knowsLength: boolean;
}

/** Up to four faults, some in later attempts. None of them needs to happen. */
export function randomFaults({ random, sizeBytes, findsCorruption, knowsLength }: RandomFaultOptions): Fault[] {
  const pick = <T>(choices: readonly T[]): T => choices[Math.floor(random() * choices.length)] as T;

  function randomFault(): Fault {
    const direction = pick<Direction>(['toServer', 'toServer', 'toServer', 'toClient']);
    // Any byte of a short answer can matter. In the bytes to the server, faults at both ends matter most.
    const atByte =
      direction === 'toClient'
        ? Math.floor(random() * 600)
        : Math.max(0, Math.floor(pick([random(), random() * 3, 1, 2]) * sizeBytes + pick([0, 0, 1, -1, 300, -300]) * random()));
    const where = { direction, atByte, everywhere: random() < 0.5, mayNotHappen: true };
    const kind = pick([...KINDS, ...(knowsLength ? ENDS : []), ...(findsCorruption ? CORRUPTIONS : [])]);
    if (kind === 'slow') return { ...where, kind, bytesPerSecond: (10 + random() * 50) * MIB };
    if (kind === 'stall') return { ...where, kind, ...(random() < 0.5 ? {} : { forMs: Math.floor(random() * 200) }) };
    return { ...where, kind, ...(kind === 'corrupt' ? { everywhere: false } : {}) };
  }

  return Array.from({ length: Math.floor(random() * 5) }, randomFault);
}
