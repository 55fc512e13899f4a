/** Counts the objects that the controller has made, for metrics. Costs time for each of them. */

import type { JobObject } from '../stores/kubernetes/client/fleet-objects.ts';
import type { ChildResource } from './decision.ts';
import { exportKeyOf } from './export-objects.ts';
import type { FleetCache } from './fleet-cache.ts';

type JobState = 'Suspended' | 'Pending' | 'Running' | 'Ended';

export interface ObjectCounts {
  jobs: Readonly<Record<JobState, number>>;
  /** All objects of each kind. */
  objects: Readonly<Record<ChildResource, number>>;
  /** Objects whose export has ended or does not exist. */
  leftovers: Readonly<Record<ChildResource, number>>;
}

const NO_OBJECTS = { jobs: 0, configMaps: 0, persistentVolumeClaims: 0, volumeSnapshots: 0, virtualMachineSnapshots: 0 };

export function countObjects(cache: Pick<FleetCache, 'childrenOfKind' | 'exports'>): ObjectCounts {
  const jobs = { Suspended: 0, Pending: 0, Running: 0, Ended: 0 };
  const [objects, leftovers] = [{ ...NO_OBJECTS }, { ...NO_OBJECTS }];
  for (const resource of Object.keys(NO_OBJECTS) as ChildResource[])
    for (const object of cache.childrenOfKind(resource)) {
      objects[resource] += 1;
      const owner = exportKeyOf(object.metadata);
      const request = owner === undefined ? undefined : cache.exports.get(owner);
      const { completionTime } = (request?.status ?? {}) as { completionTime?: string };
      if (request === undefined || completionTime !== undefined) leftovers[resource] += 1;
      if (resource === 'jobs') jobs[stateOf(object as JobObject)] += 1;
    }
  return { jobs, objects, leftovers };
}

function stateOf({ spec, status = {} }: JobObject): JobState {
  const { conditions = [], ready = 0 } = status;
  if (conditions.some(({ type, status: is }) => (type === 'Complete' || type === 'Failed') && is === 'True')) return 'Ended';
  if (spec.suspend) return 'Suspended';
  return ready > 0 ? 'Running' : 'Pending';
}
