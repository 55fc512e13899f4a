/** A Lease that this process holds: renewed while the work lasts, and never believed in without being sure. */

import { abortable, throwIfAborted } from '../../../common/abortable.ts';
import type { Clock } from '../../../common/clock.ts';
import { DiskliftError } from '../../../common/errors.ts';
import { type Backoff, backoffDelayMs } from '../../../common/retry.ts';
import { startTimeLimit } from '../../../common/time-limit.ts';
import type { Claim } from '../../contract.ts';
import { isApiFailure } from '../client/api-failure.ts';
import type { KubeResource, LeaseObject } from '../client/contract.ts';

/** In milliseconds, from the time that a Lease holds for others. */
export interface LeaseTimes {
  durationMs: number;
  renewMs: number;
  /** So long after it was asked for, a renewal is believed in; what is begun then has the rest of `durationMs` to arrive. */
  deadlineMs: number;
  /** How long the API server may take to answer. */
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
  /** Aborted when the process ends: then nobody waits any more for an API server that is away. */
  ending: AbortSignal;
}

/** What `assertHeld` bears of an API server that is away, before the work is given up. */
const CONFIRM_LIMIT_MS = 300_000;
const RELEASE_LIMIT_MS = 3000;

const BACKOFF: Backoff = { baseMs: 500, capMs: 4000 };

/**
 * `lost` is aborted when somebody else has the Lease, or nobody. That the API server does not answer is no loss yet: the work
 * goes on, and `assertHeld` waits.
 */
export class LeaseClaim implements Claim {
  private readonly options: LeaseClaimOptions;
  private lease: LeaseObject;
  /** When the last renewal that succeeded was asked for. */
  private confirmedMs: number;
  private renewing: Promise<void> | undefined;
  private readonly loss = new AbortController();
  private readonly ended = new AbortController();

  /**
   * @param lease as the API server has it, this process being its holder
   * @param confirmedMs when that was asked for
   */
  constructor(options: LeaseClaimOptions, lease: LeaseObject, confirmedMs: number) {
    this.options = options;
    this.lease = lease;
    this.confirmedMs = confirmedMs;
    void this.keep();
  }

  get lost(): AbortSignal {
    return this.loss.signal;
  }

  async assertHeld(): Promise<void> {
    const { clock, random, ending } = this.options;
    if (this.isSure()) return;
    const unsure = new DiskliftError('ExecutorLost', `the API server does not confirm the Lease ${this.lease.metadata.name}`);
    const limit = startTimeLimit({ clock, limitMs: CONFIRM_LIMIT_MS, expired: unsure });
    const signal = AbortSignal.any([limit.signal, ending, this.lost]);
    try {
      for (let failedAttempts = 1; !this.isSure(); failedAttempts += 1) {
        const isRenewed = await this.tryToRenew(signal);
        if (!isRenewed) await clock.delay(backoffDelayMs(BACKOFF, { failedAttempts }, random), signal);
      }
    } finally {
      limit.stop();
    }
  }

  /** A process that was stopped finds its time up, whatever it did last. @throws DiskliftError `ExecutorLost` when it is lost or released */
  private isSure(): boolean {
    throwIfAborted(this.lost);
    throwIfAborted(this.ended.signal);
    const { clock, times } = this.options;
    return clock.monotonicMs() - this.confirmedMs < times.deadlineMs;
  }

  /** @throws DiskliftError what `signal` was aborted with */
  private async tryToRenew(signal: AbortSignal): Promise<boolean> {
    try {
      await abortable(this.renew(), signal);
      return true;
    } catch {
      throwIfAborted(signal);
      return false;
    }
  }

  /** Once at a time. */
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
      const askedMs = clock.monotonicMs();
      const spec = { ...this.lease.spec, renewTime: microTime(clock.nowMs()) };
      try {
        this.lease = await leases.replace({ ...this.lease, spec }, limits);
        this.confirmedMs = askedMs;
        return;
      } catch (error) {
        if (!isApiFailure(error, 'Conflict') && !isApiFailure(error, 'NotFound')) throw error;
      }
      const found = await leases.get(this.lease.metadata, limits);
      if (found === undefined || found.metadata.uid !== this.lease.metadata.uid) throw this.lose('it was deleted');
      if (found.spec?.holderIdentity !== holderIdentity) throw this.lose('another process has taken it');
      // An answer of before that got lost, or somebody who has labelled it.
      this.lease = found;
    }
  }

  private lose(why: string): DiskliftError {
    const error = new DiskliftError('ExecutorLost', `the Lease ${this.lease.metadata.name} is lost: ${why}`);
    this.loss.abort(error);
    return error;
  }

  private async keep(): Promise<void> {
    const { clock, random, times } = this.options;
    const signal = AbortSignal.any([this.ended.signal, this.lost]);
    try {
      for (let failedAttempts = 0; ; ) {
        const waitMs = failedAttempts === 0 ? times.renewMs : backoffDelayMs(BACKOFF, { failedAttempts }, random);
        await clock.delay(waitMs, signal);
        failedAttempts = (await this.tryToRenew(signal)) ? 0 : failedAttempts + 1;
      }
    } catch {
      // Lost or released.
    }
  }

  /** Leaves the Lease to the next. Never fails: what cannot be given back runs out. */
  async release(): Promise<void> {
    if (this.ended.signal.aborted) return;
    this.ended.abort(new DiskliftError('ExecutorLost', `the Lease ${this.lease.metadata.name} was released`));
    await this.renewing?.catch(() => {});
    if (this.lost.aborted) return;
    await this.giveBack().catch(() => {});
  }

  private async giveBack(): Promise<void> {
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
      // The answer to the last renewal may have got lost.
      const found = await leases.get(this.lease.metadata, limits);
      if (found?.metadata.uid === this.lease.metadata.uid && found.spec?.holderIdentity === holderIdentity) await remove(found);
    }
  }
}

/** metav1.MicroTime */
export function microTime(timeMs: number): string {
  return new Date(timeMs).toISOString().replace('Z', '000Z');
}
