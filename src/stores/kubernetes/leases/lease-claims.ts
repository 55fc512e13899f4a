/** Acquires a Lease: when it is free, when it has expired, or when its holder has provably ended. */

import type { Clock } from '../../../common/clock.ts';
import type { Claim } from '../../contract.ts';
import { fateOf, type ProcessIdentity, thisProcess } from '../../process-identity.ts';
import { isApiFailure } from '../client/api-failure.ts';
import type { KubeResource, ObjectName } from '../client/contract.ts';
import type { LeaseObject, OwnerReference } from '../client/objects.ts';
import { LeaseClaim, type LeaseClaimOptions, microTime } from './lease-claim.ts';

export interface LeaseClaimsOptions extends LeaseClaimOptions {
  leases: KubeResource<LeaseObject>;
  /** Unique to this process. */
  holder: string;
  /**
   * Proves that the holder of a Lease is an ended predecessor of this process; left out, every Lease must expire first.
   */
  self?: LeaseHolder | undefined;
}

export interface LeaseTarget extends ObjectName {
  /** The garbage collector deletes the Lease with its owner. */
  owner?: OwnerReference;
  /**
   * Whether the owner, an export, is being deleted. In a terminating namespace no Lease can be created. There, "no
   * Lease seen for a whole lease duration" counts as a claim of a terminating export.
   */
  isTerminating?: boolean;
}

export interface LeaseClaims {
  /** Undefined when another process has the Lease. @throws DiskliftError of the API server */
  acquire(target: LeaseTarget): Promise<Claim | undefined>;
  /**
   * Whether `acquire` would succeed now. Starts the expiry time of a Lease of another process.
   * @throws DiskliftError of the API server
   */
  isFree(target: ObjectName): Promise<boolean>;
  /** Whether the Lease names another process as its holder. @throws DiskliftError of the API server */
  isHeldByAnother(target: ObjectName): Promise<boolean>;
  /** Starts the expiry time of a Lease that may have to be taken over later. @throws DiskliftError of the API server */
  sight(target: ObjectName): Promise<void>;
  /** Time until a Lease that was seen expires, unless its holder renews it; undefined for a Lease that was not seen. */
  leftMs(target: ObjectName): number | undefined;
  /** Drops what was seen of the Lease, after its export was deleted. */
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

  async function create({ owner, isTerminating = false, ...target }: LeaseTarget): Promise<Claim | 'held'> {
    const requestedMs = clock.monotonicMs();
    try {
      const annotations = await self?.annotations();
      const metadata = { ...target, ...(owner && { ownerReferences: [owner] }), ...(annotations && { annotations }) };
      const lease = await leases.create({ metadata, spec: specOf(undefined) });
      return new LeaseClaim(options, lease, requestedMs);
    } catch (error) {
      if (isApiFailure(error, 'AlreadyExists')) return 'held';
      if (isTerminating && isApiFailure(error, 'Forbidden') && sightings.hasExpired(target, await leases.get(target)))
        return unguardedClaim();
      throw error;
    }
  }

  async function isFree(target: ObjectName, found: LeaseObject | undefined): Promise<boolean> {
    if (found === undefined) return true;
    // A Lease of this very process is one that it could not release: the store claims an export once at a time.
    return found.spec?.holderIdentity === holder || sightings.hasExpired(target, found) || (await self?.hasEnded(found)) === true;
  }

  async function takeOver(target: ObjectName): Promise<Claim | undefined> {
    const found = await leases.get(target);
    // It was released a moment ago. The caller looks again.
    if (found === undefined || !(await isFree(target, found))) return undefined;
    try {
      const annotations = { ...found.metadata.annotations, ...(await self?.annotations()) };
      const requestedMs = clock.monotonicMs();
      const lease = await leases.replace({ ...found, metadata: { ...found.metadata, annotations }, spec: specOf(found.spec) });
      return new LeaseClaim(options, lease, requestedMs);
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
    isFree: async (target) => isFree(target, await leases.get(target)),
    async isHeldByAnother(target) {
      const { holderIdentity } = (await leases.get(target))?.spec ?? {};
      return holderIdentity !== undefined && holderIdentity !== '' && holderIdentity !== holder;
    },
    async sight(target) {
      sightings.hasExpired(target, await leases.get(target));
    },
    leftMs: sightings.leftMs,
    forget: sightings.forget,
  };
}

/** A claim without a Lease: no process can create a Lease in this namespace, so no process can start work. */
function unguardedClaim(): Claim {
  return { lost: new AbortController().signal, assertHeld: async () => {}, release: async () => {} };
}

interface LeaseSightings {
  /**
   * @param lease as the API server has just returned it; undefined when it does not exist
   * @returns whether it has not changed for its duration
   */
  hasExpired(target: ObjectName, lease: LeaseObject | undefined): boolean;
  /** Time until a Lease that was seen expires, unless it changes; undefined for a Lease that was not seen. */
  leftMs(target: ObjectName): number | undefined;
  forget(target: ObjectName): void;
}

/** A Lease that states a longer duration expires after this time, too. */
const MAX_LEASE_SECONDS = 300;

/** @param durationSeconds of a Lease that states no duration */
function createLeaseSightings(clock: Clock, durationSeconds: number): LeaseSightings {
  const seen = new Map<string, { state: string; sinceMs: number; validMs: number }>();
  const keyOf = ({ namespace, name }: ObjectName) => `${namespace}/${name}`;

  return {
    hasExpired(target, lease) {
      const { spec, metadata } = lease ?? {};
      if (lease !== undefined && !spec?.holderIdentity) return true;
      const state = JSON.stringify([metadata?.uid, spec?.holderIdentity, spec?.renewTime, spec?.leaseTransitions]);
      const key = keyOf(target);
      const nowMs = clock.monotonicMs();
      const before = seen.get(key);
      if (before?.state !== state) {
        const validMs = Math.min(spec?.leaseDurationSeconds ?? durationSeconds, MAX_LEASE_SECONDS) * 1000;
        seen.set(key, { state, sinceMs: nowMs, validMs });
        return false;
      }
      return nowMs - before.sinceMs >= before.validMs;
    },
    leftMs(target) {
      const known = seen.get(keyOf(target));
      return known === undefined ? undefined : Math.max(0, known.sinceMs + known.validMs - clock.monotonicMs());
    },
    forget(target) {
      seen.delete(keyOf(target));
    },
  };
}

const ANNOTATION = 'disklift.dev/holder';

/**
 * Repeats the Lease's holder: a version without this annotation may take the Lease over and leave an old annotation
 * behind.
 */
interface HolderNote extends ProcessIdentity {
  holder: string;
  instance: string;
}

export interface LeaseHolder {
  /** Annotations for a Lease that this process acquires. */
  annotations(): Promise<Record<string, string>>;
  /** Whether the Lease's holder is a predecessor of this process that has provably ended. False without a proof. */
  hasEnded(lease: LeaseObject): Promise<boolean>;
}

export interface LeaseHolderOptions {
  /** This process, as its Leases name it. */
  holder: string;
  /** Name of its pod. Only a process of a pod with this name counts as a predecessor. */
  instance: string;
  /** Default: this process. */
  identify?: () => Promise<ProcessIdentity>;
}

export function createLeaseHolder({ holder, instance, identify = thisProcess }: LeaseHolderOptions): LeaseHolder {
  let identity: Promise<ProcessIdentity> | undefined;
  const own = () => {
    identity ??= identify();
    return identity;
  };
  return {
    async annotations() {
      const note: HolderNote = { holder, instance, ...(await own()) };
      return { [ANNOTATION]: JSON.stringify(note) };
    },
    async hasEnded({ metadata, spec }) {
      const note = parseNote(metadata.annotations?.[ANNOTATION]);
      if (note === undefined || note.holder !== spec?.holderIdentity || note.instance !== instance) return false;
      return (await fateOf(note, await own())) === 'ended';
    },
  };
}

function parseNote(text: string | undefined): HolderNote | undefined {
  try {
    const note: unknown = JSON.parse(text ?? '');
    return typeof note === 'object' && note !== null ? (note as HolderNote) : undefined;
  } catch {
    return undefined;
  }
}
