/**
 * Elects one leader among processes by a Lease.
 *
 * Calls of runAsLeader, until `signal` is aborted:
 * - it acquires the Lease, and calls `lead` with a term;
 * - the signal of the term is aborted, and `lead` ends;
 * - it deletes the Lease, so that the next process need not wait.
 */

import { abortable } from '../../../common/abortable.ts';
import { DiskliftError } from '../../../common/errors.ts';
import { type Backoff, backoffDelayMs } from '../../../common/retry.ts';
import { settleWithin } from '../../../common/time-limit.ts';
import type { Claim } from '../../contract.ts';
import type { ObjectName } from '../client/contract.ts';
import { createLeaseClaims, type LeaseClaims, type LeaseClaimsOptions } from './lease-claims.ts';

/** The time for which this process leads. */
export interface Term {
  /** Aborted when another process has the Lease, when the Lease was deleted, and when the process must end. */
  signal: AbortSignal;
  /**
   * Await it before each write. While the API server does not answer it waits, because another process may lead by now.
   * @throws DiskliftError `ExecutorLost`
   */
  assertHeld(): Promise<void>;
}

export interface LeadershipOptions extends Omit<LeaseClaimsOptions, 'ending'> {
  target: ObjectName;
  /** Must end soon after the signal of `term` was aborted. Its failure then is ignored. */
  lead(term: Term): Promise<void>;
  /** Called when this process begins and ceases to lead. */
  onChange(isLeading: boolean): void;
  /** Called after each look at the Lease of another process. @param failure when the API server did not answer it */
  onLook?(failure: Error | undefined): void;
  warn(message: string): void;
  /** Aborted when the process must end. */
  signal: AbortSignal;
}

/** A process that waits looks at the Lease this often. */
const LOOK_MS = 1000;

/** Time for `lead` to end after the abort of its signal. */
const GRACE_MS = 5000;

/** Time for a running acquisition to end after the abort of `signal`. */
const ACQUISITION_GRACE_MS = 1000;

const BACKOFF: Backoff = { baseMs: 1000, capMs: 10_000 };

/**
 * Leads whenever no other process does. Ends after the abort of `signal`, and when `lead` ends without an abort.
 * @throws the failure of `lead`; DiskliftError `ExecutorLost` when `lead` does not end after the Lease was lost
 */
export async function runAsLeader(options: LeadershipOptions): Promise<void> {
  const { signal } = options;
  const claims = createLeaseClaims({ ...options, ending: signal });
  for (;;) {
    const claim = await untilElected(claims, options);
    if (claim === undefined) return;
    const hasEnded = await leadWith(claim, options);
    if (hasEnded || signal.aborted) return;
  }
}

/** @returns undefined after the abort of `signal` */
async function untilElected(claims: LeaseClaims, options: LeadershipOptions): Promise<Claim | undefined> {
  const { target, clock, random, onLook, warn, signal } = options;
  let warned: string | undefined;
  for (let failedAttempts = 0; !signal.aborted; ) {
    try {
      const claim = await acquire(claims, options);
      onLook?.(undefined);
      if (claim !== undefined) return claim;
      if (warned !== undefined) warn(`the API server answers again for the Lease ${target.name}`);
      [failedAttempts, warned] = [0, undefined];
    } catch (error) {
      if (signal.aborted) return undefined;
      onLook?.(error as Error);
      const { message } = error as Error;
      if (message !== warned) warn(message);
      [failedAttempts, warned] = [failedAttempts + 1, message];
    }
    const waitMs = failedAttempts === 0 ? LOOK_MS : backoffDelayMs(BACKOFF, { failedAttempts }, random);
    await clock.delay(waitMs, signal).catch(() => {});
  }
  return undefined;
}

/** A Lease that is acquired too late, after the abort of `signal`, is released. */
async function acquire(claims: LeaseClaims, { target, clock, signal }: LeadershipOptions): Promise<Claim | undefined> {
  if (!(await abortable(claims.isFree(target), signal))) return undefined;
  const acquisition = claims.acquire(target);
  try {
    return await settleWithin(acquisition, { signal, clock, graceMs: ACQUISITION_GRACE_MS });
  } catch (error) {
    acquisition.then(
      (claim) => claim?.release(),
      () => {},
    );
    throw error;
  }
}

/** @returns whether `lead` has ended by itself */
async function leadWith(claim: Claim, { lead, onChange, clock, signal }: LeadershipOptions): Promise<boolean> {
  const termSignal = AbortSignal.any([signal, claim.lost]);
  let hasSettled = false;
  onChange(true);
  try {
    const work = lead({ signal: termSignal, assertHeld: () => claim.assertHeld() }).finally(() => {
      hasSettled = true;
    });
    await settleWithin(work, { signal: termSignal, clock, graceMs: GRACE_MS });
    return !termSignal.aborted;
  } catch (error) {
    if (!termSignal.aborted) throw error;
    // The next term must not begin beside the work of this one.
    if (!hasSettled && !signal.aborted)
      throw new DiskliftError('ExecutorLost', `the work of a former leader does not end in ${GRACE_MS / 1000} s`, error);
    return false;
  } finally {
    onChange(false);
    // After this, assertHeld fails.
    await claim.release();
  }
}
