/** A DiskExport as the API server has it: its request, the latest version that is known, and changes of one version. */

import { DiskliftError } from '../../../common/errors.ts';
import type { DiskExportStatus } from '../../../resource/disk-export.ts';
import { isFields } from '../../../resource/schema.ts';
import { unreadableStatus, validateDiskExport } from '../../../resource/validate.ts';
import type { StoredRequest } from '../../contract.ts';
import { isApiFailure } from '../client/api-failure.ts';
import type { KubeApi, MergePatch, ObjectName, Reflector } from '../client/contract.ts';
import type { ExportObject, OwnerReference } from '../client/objects.ts';
import type { LeaseTarget } from '../leases/lease-claims.ts';

const RESOURCE = { apiVersion: 'disklift.dev/v1alpha1', kind: 'DiskExport' };

/**
 * An object has it only while a live process has an upload open: without that process the object could not be deleted.
 */
const FINALIZER = 'disklift.dev/cleanup';

export function isTerminating({ metadata }: ExportObject): boolean {
  return metadata.deletionTimestamp !== undefined;
}

export function hasFinalizer({ metadata: { finalizers = [] } }: ExportObject): boolean {
  return finalizers.includes(FINALIZER);
}

export function keyOf({ namespace, name }: ObjectName): string {
  return `${namespace}/${name}`;
}

/** The Lease of a DiskExport. */
export function leaseTargetOf(object: ExportObject): LeaseTarget {
  const { namespace, name, uid } = object.metadata;
  return { namespace, name: `disklift-${uid}`, owner: ownerOf(name, uid), isTerminating: isTerminating(object) };
}

function ownerOf(name: string, uid: string): OwnerReference {
  return { ...RESOURCE, name, uid };
}

/** @returns undefined for the default status that the API server gives every new object */
export function statusOf({ status }: ExportObject): DiskExportStatus | undefined {
  if (!isFields(status)) return undefined;
  const isBegun = status.startTime !== undefined || status.observedGeneration !== undefined || status.completionTime !== undefined;
  return isBegun ? (status as DiskExportStatus) : undefined;
}

export function isFinished(object: ExportObject): boolean {
  return statusOf(object)?.completionTime !== undefined;
}

/** @returns undefined for a deleted object that only finalizers of other programs keep */
export function storedRequestOf(object: ExportObject): StoredRequest | undefined {
  if (isTerminating(object) && !hasFinalizer(object)) return undefined;
  // This version's schema admits no such status. An earlier version's schema may have.
  const unreadable = unreadableStatus(object.status ?? {});
  if (unreadable !== undefined) return { kind: 'invalid', message: unreadable, status: undefined };
  const status = statusOf(object);
  try {
    const request = validateDiskExport({ ...RESOURCE, ...object });
    return { kind: 'request', request: status === undefined ? request : { ...request, status }, isTerminating: isTerminating(object) };
  } catch (error) {
    if (!(error instanceof DiskliftError)) throw error;
    return { kind: 'invalid', message: error.message, status };
  }
}

/** Versions of one object are growing numbers. Where they are not numbers, the later answer counts. */
function isNewer(object: ExportObject, other: ExportObject): boolean {
  const [a, b] = [object, other].map(({ metadata }) => metadata.resourceVersion) as [string, string];
  return !/^\d+$/.test(a + b) || BigInt(a) > BigInt(b);
}

export interface KnownExports {
  get(key: string): ExportObject | undefined;
  /** Takes the answer to a call, which the reflector may receive later. */
  learn(object: ExportObject): void;
}

export function createKnownExports(reflector: Pick<Reflector, 'get'>): KnownExports {
  const answers = new Map<string, ExportObject>();

  return {
    get(key) {
      const [reflected, answered] = [reflector.get(key), answers.get(key)];
      if (answered === undefined || reflected === undefined) {
        // The reflector had the object before the answer came. If the reflector has it no longer, it was deleted.
        answers.delete(key);
        return reflected;
      }
      const isAhead = answered.metadata.uid === reflected.metadata.uid && isNewer(answered, reflected);
      if (!isAhead) answers.delete(key);
      return isAhead ? answered : reflected;
    },
    learn(object) {
      answers.set(keyOf(object.metadata), object);
    },
  };
}

type Exports = Pick<KubeApi['exports'], 'get' | 'patch'>;

/** Each conflict is an edit by another program. More edits than this in a row are a fault of that program. */
const MAX_CONFLICTS = 10;

/**
 * Changes the latest version of the object. The patch holds for one version only; after a conflict `change` is called
 * with the new version.
 * @param change returns undefined when nothing has to be changed
 * @returns the object after the change; undefined when it was deleted
 */
export async function changeExport(
  exports: Exports,
  object: ExportObject,
  change: (object: ExportObject) => { patch: MergePatch; subresource?: 'status' } | undefined,
): Promise<ExportObject | undefined> {
  let current = object;
  for (let conflicts = 0; ; conflicts += 1) {
    const wanted = change(current);
    if (wanted === undefined) return current;
    const { uid, resourceVersion } = current.metadata;
    const metadata = { uid, resourceVersion, ...(wanted.patch.metadata as object | undefined) };
    try {
      return await exports.patch(current.metadata, { ...wanted, patch: { ...wanted.patch, metadata } });
    } catch (error) {
      if (isApiFailure(error, 'NotFound')) return undefined;
      if (!isApiFailure(error, 'Conflict') || conflicts === MAX_CONFLICTS) throw error;
    }
    const found = await exports.get(object.metadata);
    if (found === undefined || found.metadata.uid !== uid) return undefined;
    current = found;
  }
}

/**
 * @returns as {@link changeExport}
 * @throws DiskliftError `Cancelled` for an object that is being deleted, to which the API server adds no finalizer
 */
export function setFinalizer(exports: Exports, object: ExportObject, isWanted: boolean): Promise<ExportObject | undefined> {
  return changeExport(exports, object, (current) => {
    if (hasFinalizer(current) === isWanted) return undefined;
    if (isWanted && isTerminating(current)) throw new DiskliftError('Cancelled', `${keyOf(current.metadata)} is being deleted`);
    const others = (current.metadata.finalizers ?? []).filter((each) => each !== FINALIZER);
    return { patch: { metadata: { finalizers: isWanted ? [...others, FINALIZER] : others } } };
  });
}
