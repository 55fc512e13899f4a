/** Carries out the actions of a decision. Every action can be repeated. */

import type { DiskExport } from '../resource/disk-export.ts';
import { isApiFailure } from '../stores/kubernetes/client/api-failure.ts';
import type { KubeResource, ObjectName, Unsaved } from '../stores/kubernetes/client/contract.ts';
import type { FleetApi } from '../stores/kubernetes/client/fleet-api.ts';
import type { ExportObject, KubeObject } from '../stores/kubernetes/client/objects.ts';
import { setFinalizer } from '../stores/kubernetes/store/export-object.ts';
import type { Action, ChildResource } from './decision.ts';
import { exportSelector, handedToClaim } from './export-objects.ts';
import type { FleetCache } from './fleet-cache.ts';
import type { WorkerAccess } from './worker-access.ts';

export interface PerformerOptions {
  api: FleetApi;
  cache: Pick<FleetCache, 'learn' | 'exports'>;
  access: WorkerAccess;
  /** Awaited before each change. @throws DiskliftError `ExecutorLost` when another controller may lead */
  assertLeading(): Promise<void>;
}

export interface Performer {
  /** Stops at the first failure. @throws DiskliftError of the API server; `ExecutorLost` */
  perform(object: ExportObject, request: DiskExport, actions: readonly Action[]): Promise<void>;
}

interface Existing {
  request: DiskExport;
  /** Thrown when the object is another program's, or is gone. */
  error: unknown;
}

export function createPerformer({ api, cache, access, assertLeading }: PerformerOptions): Performer {
  const resourceOf = (resource: ChildResource) => api[resource] as unknown as KubeResource<KubeObject>;

  async function create({ resource, object }: Extract<Action, { kind: 'create' }>, request: DiskExport): Promise<void> {
    try {
      cache.learn(resource, await resourceOf(resource).create(object as unknown as Unsaved<KubeObject>));
    } catch (error) {
      if (isApiFailure(error, 'AlreadyExists')) return await learnExisting(resource, object.metadata, { request, error });
      if (isApiFailure(error, 'NotFound') || isApiFailure(error, 'Forbidden')) access.forget(request.metadata.namespace);
      throw error;
    }
  }

  /** An earlier call made it, and its answer was lost. */
  async function learnExisting(resource: ChildResource, { namespace, name }: ObjectName, { request, error }: Existing): Promise<void> {
    const { items } = await resourceOf(resource).list(namespace, { labelSelector: exportSelector(request) });
    const there = items.find(({ metadata }) => metadata.name === name);
    if (there === undefined) throw error;
    cache.learn(resource, there);
  }

  async function remove({ resource, object }: Extract<Action, { kind: 'remove' }>): Promise<void> {
    const { namespace, name, uid } = object.metadata;
    try {
      // A Job is gone only when its pods are gone.
      const propagationPolicy = resource === 'jobs' ? 'Foreground' : 'Background';
      await resourceOf(resource).remove({ namespace, name }, { uid, propagationPolicy });
    } catch (error) {
      // Another object has the name by now.
      if (!isApiFailure(error, 'Conflict')) throw error;
    }
  }

  return {
    async perform(object, request, actions) {
      for (const action of actions) {
        await assertLeading();
        if (action.kind === 'create') await create(action, request);
        else if (action.kind === 'remove') await remove(action);
        else if (action.kind === 'keep-snapshot') await keepSnapshot(action);
        else if (action.kind === 'ensure-access') await access.ensure(request.metadata.namespace);
        else if (action.kind === 'remove-export') await removeExport(object);
        else await removeFinalizer(object);
      }
    },
  };

  async function keepSnapshot({ object, claim }: Extract<Action, { kind: 'keep-snapshot' }>): Promise<void> {
    const { namespace, name } = object.metadata;
    await api.volumeSnapshots.patch({ namespace, name }, { patch: handedToClaim(claim) });
  }

  /** Only this version of the export: an edited one may have another time to live. */
  async function removeExport({ metadata: { namespace, name, uid, resourceVersion } }: ExportObject): Promise<void> {
    try {
      await api.exports.remove({ namespace, name }, { uid, resourceVersion });
    } catch (error) {
      if (!isApiFailure(error, 'Conflict')) throw error;
    }
  }

  async function removeFinalizer(object: ExportObject): Promise<void> {
    const changed = await setFinalizer(api.exports, object, false);
    if (changed !== undefined) cache.exports.learn(changed);
  }
}
