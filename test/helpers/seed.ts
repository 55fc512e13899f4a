/** The seed of the property tests: fixed, so that a failure is found again; another one by DISKLIFT_TEST_SEED. */

export const SEED = Number(process.env.DISKLIFT_TEST_SEED ?? 20_261_124);

/** Appended to a test's title. */
export const SEED_TEXT = `(seed ${SEED})`;
