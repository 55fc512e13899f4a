/** A DiskExport as the API server has it, and what it is to the engine. Pure. */

import { DiskliftError } from '../../../common/errors.ts';
import type { DiskExportStatus } from '../../../resource/disk-export.ts';
import { isFields } from '../../../resource/fields.ts';
import { unreadableStatus, validateDiskExport } from '../../../resource/validate.ts';
import type { StoredRequest } from '../../contract.ts';
import type { ExportObject, ObjectName, OwnerReference } from '../client/contract.ts';
import type { LeaseTarget } from '../leases/lease-claims.ts';

const RESOURCE = { apiVersion: 'disklift.dev/v1alpha1', kind: 'DiskExport' };

/** On an object only while a live process holds something open for it, because nobody could delete the object without. */
export const FINALIZER = 'disklift.dev/cleanup';

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

/** @returns undefined for what the API server gives every new object: that nobody has begun with it */
export function statusOf({ status }: ExportObject): DiskExportStatus | undefined {
  if (!isFields(status)) return undefined;
  const isBegun = status.startTime !== undefined || status.observedGeneration !== undefined || status.completionTime !== undefined;
  return isBegun ? (status as DiskExportStatus) : undefined;
}

export function isFinished(object: ExportObject): boolean {
  return statusOf(object)?.completionTime !== undefined;
}

/** @returns undefined for an object that only others still keep from going away */
export function storedRequestOf(object: ExportObject): StoredRequest | undefined {
  if (isTerminating(object) && !hasFinalizer(object)) return undefined;
  // The CRD's schema lets none in, but another version's may have.
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

/** Versions of one object are numbers that grow; where they are not, the later answer counts. */
export function isNewer(object: ExportObject, other: ExportObject): boolean {
  const [a, b] = [object, other].map(({ metadata }) => metadata.resourceVersion) as [string, string];
  return !/^\d+$/.test(a + b) || BigInt(a) > BigInt(b);
}
