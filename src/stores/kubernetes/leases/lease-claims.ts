/** Acquires the Lease of an export: when it is free, when it has expired, or when its holder has provably ended. */

import type { Clock } from '../../../common/clock.ts';
import type { Claim } from '../../contract.ts';
import { fateOf, type ProcessIdentity, thisProcess } from '../../process-identity.ts';
import { isApiFailure } from '../client/api-failure.ts';
import type { KubeResource, LeaseObject, ObjectName, OwnerReference } from '../client/contract.ts';
import { LeaseClaim, type LeaseClaimOptions, microTime } from './lease-claim.ts';

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

interface LeaseSightings {
  /** @param lease as the API server has just given it; undefined where there is none @returns whether it has looked so for as long as it holds */
  hasRunOut(target: ObjectName, lease: LeaseObject | undefined): boolean;
  /** Until a Lease that was seen has run out, unless it changes; undefined for one that was not seen. */
  leftMs(target: ObjectName): number | undefined;
  forget(target: ObjectName): void;
}

/** No holder is trusted to be away for longer, whatever it has written. */
const MAX_LEASE_SECONDS = 300;

/** @param durationSeconds of a Lease that does not say how long it holds */
function createLeaseSightings(clock: Clock, durationSeconds: number): LeaseSightings {
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

const ANNOTATION = 'disklift.dev/holder';

/** Bound to the Lease's own holder: a version that does not know the annotation may take the Lease over and leave it there. */
interface HolderNote extends ProcessIdentity {
  holder: string;
  instance: string;
}

export interface LeaseHolder {
  /** To be merged into those of a Lease that this process takes. */
  annotations(): Promise<Record<string, string>>;
  /** Whether the Lease's holder is a predecessor of this process that has provably ended. False where nothing proves it. */
  hasEnded(lease: LeaseObject): Promise<boolean>;
}

export interface LeaseHolderOptions {
  /** This process, as its Leases name it. */
  holder: string;
  /** Name of its pod. Only a predecessor of that name is looked for. */
  instance: string;
  /** Left out: this process. */
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
