/** The seed of the property tests: fixed, so that a failure is found again; another one by DISKLIFT_TEST_SEED. */

import { createHash } from 'node:crypto';

export const SEED = Number(process.env.DISKLIFT_TEST_SEED ?? 20_261_124);

/** Appended to a test's title. */
export const SEED_TEXT = `(seed ${SEED})`;

/** @returns a different seed for each part of a test, also different from the seeds of neighbouring parts and runs */
export function seedOf(part: number): number {
  return createHash('sha256').update(`${SEED}/${part}`).digest().readInt32LE(0);
}

/**
 * mulberry32: the same numbers on every machine.
 * @returns a function that gives numbers from 0 up to, and not with, 1
 */
export function createRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
