/** How a process comes to hold the Lease of an export: it is free, or its holder shows no life any more. */

import type { Claim } from '../../contract.ts';
import { isApiFailure } from '../client/api-failure.ts';
import type { KubeResource, LeaseObject, ObjectName, OwnerReference } from '../client/contract.ts';
import { LeaseClaim, type LeaseClaimOptions, microTime } from './lease-claim.ts';
import type { LeaseHolder } from './lease-holder.ts';
import { createLeaseSightings } from './lease-sightings.ts';

export interface LeaseClaimsOptions extends LeaseClaimOptions {
  leases: KubeResource<LeaseObject>;
  /** Tells this process from any other that ever is. */
  holder: string;
  /** Proves that the holder of a Lease is an ended predecessor of this process; left out, every Lease has to run out. */
  self?: LeaseHolder | undefined;
}

export interface LeaseTarget extends ObjectName {
  /** With which it goes away. */
  owner: OwnerReference;
  /** In a namespace that goes away nobody can have a Lease; then that there has been none for long does. */
  isTerminating: boolean;
}

export interface LeaseClaims {
  /** Undefined when another process has it. @throws DiskliftError of the API server */
  acquire(target: LeaseTarget): Promise<Claim | undefined>;
  /** Whether another process has it, as far as the API server knows. @throws DiskliftError of the API server */
  isHeldByAnother(target: ObjectName): Promise<boolean>;
  /** Begins to watch a Lease that may have to be taken over later, so that its time runs. @throws DiskliftError of the API server */
  sight(target: ObjectName): Promise<void>;
  /** How long a Lease that was seen holds still, unless its holder shows life; undefined for one that was not seen. */
  leftMs(target: ObjectName): number | undefined;
  /** The object is gone. */
  forget(target: ObjectName): void;
}

export function createLeaseClaims(options: LeaseClaimsOptions): LeaseClaims {
  const { leases, clock, times, holder, self } = options;
  const durationSeconds = times.durationMs / 1000;
  const sightings = createLeaseSightings(clock, durationSeconds);

  function specOf(previous: LeaseObject['spec']): NonNullable<LeaseObject['spec']> {
    const now = microTime(clock.nowMs());
    const leaseTransitions = previous === undefined ? 0 : (previous.leaseTransitions ?? 0) + 1;
    return { holderIdentity: holder, leaseDurationSeconds: Math.ceil(durationSeconds), acquireTime: now, renewTime: now, leaseTransitions };
  }

  async function create({ owner, isTerminating, ...target }: LeaseTarget): Promise<Claim | 'held'> {
    const askedMs = clock.monotonicMs();
    try {
      const annotations = await self?.annotations();
      const metadata = { ...target, ownerReferences: [owner], ...(annotations === undefined ? {} : { annotations }) };
      const lease = await leases.create({ metadata, spec: specOf(undefined) });
      return new LeaseClaim(options, lease, askedMs);
    } catch (error) {
      if (isApiFailure(error, 'AlreadyExists')) return 'held';
      if (isTerminating && isApiFailure(error, 'Forbidden') && sightings.hasRunOut(target, await leases.get(target)))
        return unguardedClaim();
      throw error;
    }
  }

  async function takeOver(target: ObjectName): Promise<Claim | undefined> {
    const found = await leases.get(target);
    // It was given back this moment; who wants it looks again.
    if (found === undefined) return undefined;
    // Of this process only what it could not give back, because the store asks once at a time.
    const isFree = found.spec?.holderIdentity === holder || sightings.hasRunOut(target, found) || (await self?.hasEnded(found)) === true;
    if (!isFree) return undefined;
    try {
      const annotations = { ...found.metadata.annotations, ...(await self?.annotations()) };
      const askedMs = clock.monotonicMs();
      const lease = await leases.replace({ ...found, metadata: { ...found.metadata, annotations }, spec: specOf(found.spec) });
      return new LeaseClaim(options, lease, askedMs);
    } catch (error) {
      if (isApiFailure(error, 'Conflict') || isApiFailure(error, 'NotFound')) return undefined;
      throw error;
    }
  }

  return {
    async acquire(target) {
      const created = await create(target);
      const claim = created === 'held' ? await takeOver(target) : created;
      if (claim !== undefined) sightings.forget(target);
      return claim;
    },
    async isHeldByAnother(target) {
      const { holderIdentity } = (await leases.get(target))?.spec ?? {};
      return holderIdentity !== undefined && holderIdentity !== '' && holderIdentity !== holder;
    },
    async sight(target) {
      sightings.hasRunOut(target, await leases.get(target));
    },
    leftMs: sightings.leftMs,
    forget: sightings.forget,
  };
}

/** Nobody can have a Lease any more, so nobody can begin anything. */
function unguardedClaim(): Claim {
  return { lost: new AbortController().signal, assertHeld: async () => {}, release: async () => {} };
}
