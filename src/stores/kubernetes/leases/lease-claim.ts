/** A Lease that this process holds: renewed until its release. */

import { abortable, throwIfAborted } from '../../../common/abortable.ts';
import type { Clock } from '../../../common/clock.ts';
import { DiskliftError } from '../../../common/errors.ts';
import { type Backoff, retry } from '../../../common/retry.ts';
import { startTimeLimit } from '../../../common/time-limit.ts';
import type { Claim } from '../../contract.ts';
import { isApiFailure } from '../client/api-failure.ts';
import type { KubeResource } from '../client/contract.ts';
import type { LeaseObject } from '../client/objects.ts';

/** Times in milliseconds, derived from the duration of a Lease. */
export interface LeaseTimes {
  durationMs: number;
  renewMs: number;
  /**
   * A renewal counts for this long after it was requested. Work that starts at the last moment has `durationMs -
   * deadlineMs` left.
   */
  deadlineMs: number;
  /** Time limit for an answer of the API server. */
  answerMs: number;
}

/** @param durationSeconds 3 and more */
export function leaseTimesOf(durationSeconds: number): LeaseTimes {
  const durationMs = durationSeconds * 1000;
  return { durationMs, renewMs: durationMs / 3, deadlineMs: (durationMs * 2) / 3, answerMs: durationMs / 6 };
}

export interface LeaseClaimOptions {
  leases: Pick<KubeResource<LeaseObject>, 'get' | 'replace' | 'remove'>;
  times: LeaseTimes;
  clock: Clock;
  random(): number;
  /** Aborted when the process ends. Ends every wait for an API server that does not answer. */
  ending: AbortSignal;
}

/**
 * Time for which `assertHeld` retries while the API server does not answer. After that, another process may own the
 * Lease.
 */
const ASSERT_LIMIT_MS = 300_000;
const RELEASE_LIMIT_MS = 3000;

const BACKOFF: Backoff = { baseMs: 500, capMs: 4000 };

/**
 * `lost` is aborted when another process has the Lease, or the Lease was deleted. An API server that does not answer is
 * no loss: the work continues, and `assertHeld` waits.
 */
export class LeaseClaim implements Claim {
  private readonly options: LeaseClaimOptions;
  private lease: LeaseObject;
  /** Time at which the last successful renewal was requested. */
  private renewedMs: number;
  private renewing: Promise<void> | undefined;
  private readonly loss = new AbortController();
  private readonly ended = new AbortController();

  /**
   * @param lease as the API server returned it, with this process as its holder
   * @param renewedMs when that was requested
   */
  constructor(options: LeaseClaimOptions, lease: LeaseObject, renewedMs: number) {
    this.options = options;
    this.lease = lease;
    this.renewedMs = renewedMs;
    void this.renewRegularly();
  }

  get lost(): AbortSignal {
    return this.loss.signal;
  }

  async assertHeld(): Promise<void> {
    const { clock, ending } = this.options;
    if (this.isWithinDeadline()) return;
    const unconfirmed = new DiskliftError('ExecutorLost', `the API server does not confirm the Lease ${this.lease.metadata.name}`);
    const limit = startTimeLimit({ clock, limitMs: ASSERT_LIMIT_MS, expired: unconfirmed });
    const signal = AbortSignal.any([limit.signal, ending, this.lost, this.ended.signal]);
    try {
      await this.retried(async () => {
        while (!this.isWithinDeadline()) await abortable(this.renew(), signal);
      }, signal);
    } finally {
      limit.stop();
    }
  }

  /**
   * False also after the process was stopped for too long (SIGSTOP).
   * @throws DiskliftError `ExecutorLost` when it is lost or released
   */
  private isWithinDeadline(): boolean {
    throwIfAborted(this.lost);
    throwIfAborted(this.ended.signal);
    const { clock, times } = this.options;
    return clock.monotonicMs() - this.renewedMs < times.deadlineMs;
  }

  /** @throws DiskliftError what `signal` was aborted with */
  private retried(renewal: () => Promise<void>, signal: AbortSignal): Promise<void> {
    const { clock, random } = this.options;
    return retry(renewal, { isRetryable: () => true, backoff: BACKOFF, maxDelayMs: BACKOFF.capMs, clock, random, signal });
  }

  /** One renewal at a time: callers share it. */
  private renew(): Promise<void> {
    this.renewing ??= this.renewNow().finally(() => {
      this.renewing = undefined;
    });
    return this.renewing;
  }

  private async renewNow(): Promise<void> {
    const { leases, clock, times } = this.options;
    const limits = { limitMs: times.answerMs };
    const { holderIdentity } = this.lease.spec ?? {};
    for (;;) {
      const requestedMs = clock.monotonicMs();
      const spec = { ...this.lease.spec, renewTime: microTime(clock.nowMs()) };
      try {
        this.lease = await leases.replace({ ...this.lease, spec }, limits);
        this.renewedMs = requestedMs;
        return;
      } catch (error) {
        if (!isApiFailure(error, 'Conflict') && !isApiFailure(error, 'NotFound')) throw error;
      }
      const found = await leases.get(this.lease.metadata, limits);
      if (found === undefined || found.metadata.uid !== this.lease.metadata.uid) throw this.lose('it was deleted');
      if (found.spec?.holderIdentity !== holderIdentity) throw this.lose('another process has taken it');
      // The answer to an earlier renewal was lost, or a user has labelled the Lease.
      this.lease = found;
    }
  }

  private lose(why: string): DiskliftError {
    const error = new DiskliftError('ExecutorLost', `the Lease ${this.lease.metadata.name} is lost: ${why}`);
    this.loss.abort(error);
    return error;
  }

  private async renewRegularly(): Promise<void> {
    const { clock, times } = this.options;
    const signal = AbortSignal.any([this.ended.signal, this.lost]);
    try {
      for (;;) {
        await clock.delay(times.renewMs, signal);
        await this.retried(() => abortable(this.renew(), signal), signal);
      }
    } catch {
      // Lost or released.
    }
  }

  /** Deletes the Lease, so that the next process need not wait. Never fails: a Lease that cannot be deleted expires. */
  async release(): Promise<void> {
    if (this.ended.signal.aborted) return;
    this.ended.abort(new DiskliftError('ExecutorLost', `the Lease ${this.lease.metadata.name} was released`));
    await this.renewing?.catch(() => {});
    if (this.lost.aborted) return;
    await this.deleteLease().catch(() => {});
  }

  private async deleteLease(): Promise<void> {
    const { leases } = this.options;
    const limits = { limitMs: RELEASE_LIMIT_MS };
    const { holderIdentity } = this.lease.spec ?? {};
    const remove = ({ metadata }: LeaseObject) => {
      const { uid, resourceVersion } = metadata;
      return leases.remove(metadata, { uid, resourceVersion, ...limits });
    };
    try {
      await remove(this.lease);
    } catch (error) {
      if (!isApiFailure(error, 'Conflict')) throw error;
      // The answer to the last renewal may have been lost.
      const found = await leases.get(this.lease.metadata, limits);
      if (found?.metadata.uid === this.lease.metadata.uid && found.spec?.holderIdentity === holderIdentity) await remove(found);
    }
  }
}

/** metav1.MicroTime */
export function microTime(timeMs: number): string {
  return new Date(timeMs).toISOString().replace('Z', '000Z');
}
