/** What Leases of others looked like, and since when: a Lease runs out by the time that passes here, whatever clock its holder has. */

import type { Clock } from '../../../common/clock.ts';
import type { LeaseObject, ObjectName } from '../client/contract.ts';

export interface LeaseSightings {
  /** @param lease as the API server has just given it; undefined where there is none @returns whether it has looked so for as long as it holds */
  hasRunOut(target: ObjectName, lease: LeaseObject | undefined): boolean;
  /** Until a Lease that was seen has run out, unless it changes; undefined for one that was not seen. */
  leftMs(target: ObjectName): number | undefined;
  forget(target: ObjectName): void;
}

/** No holder is trusted to be away for longer, whatever it has written. */
const MAX_LEASE_SECONDS = 300;

/** @param durationSeconds of a Lease that does not say how long it holds */
export function createLeaseSightings(clock: Clock, durationSeconds: number): LeaseSightings {
  const seen = new Map<string, { state: string; sinceMs: number; holdsMs: number }>();
  const keyOf = ({ namespace, name }: ObjectName) => `${namespace}/${name}`;

  return {
    hasRunOut(target, lease) {
      const { spec, metadata } = lease ?? {};
      if (lease !== undefined && !spec?.holderIdentity) return true;
      const state = JSON.stringify([metadata?.uid, spec?.holderIdentity, spec?.renewTime, spec?.leaseTransitions]);
      const key = keyOf(target);
      const nowMs = clock.monotonicMs();
      const before = seen.get(key);
      if (before?.state !== state) {
        const holdsMs = Math.min(spec?.leaseDurationSeconds ?? durationSeconds, MAX_LEASE_SECONDS) * 1000;
        seen.set(key, { state, sinceMs: nowMs, holdsMs });
        return false;
      }
      return nowMs - before.sinceMs >= before.holdsMs;
    },
    leftMs(target) {
      const known = seen.get(keyOf(target));
      return known === undefined ? undefined : Math.max(0, known.sinceMs + known.holdsMs - clock.monotonicMs());
    },
    forget(target) {
      seen.delete(keyOf(target));
    },
  };
}
