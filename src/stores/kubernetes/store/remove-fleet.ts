/**
 * Stops the controller of a release, then removes what it has made in all its namespaces, while both still have their
 * rights.
 *
 * The order matters:
 * 1. the controller, because it would make the objects again;
 * 2. the Jobs: their pods remove the finalizers of open uploads before they end;
 * 3. the snapshots and clones, which only these pods used;
 * 4. RoleBindings and ServiceAccounts, without which a pod cannot remove its finalizer.
 */

import type { Clock } from '../../../common/clock.ts';
import type { DiskliftError } from '../../../common/errors.ts';
import { isApiFailure } from '../client/api-failure.ts';
import { type KubeResource, scopesOf, type WorkloadApi } from '../client/contract.ts';
import type { FleetApi } from '../client/fleet-api.ts';
import type { KubeObject } from '../client/objects.ts';
import { CALL_LIMIT_MS, failureOf, podProblem, pollProblem, stopWorkloads } from './stop-workloads.ts';

/** In the order in which they are removed, after the Jobs. */
const KINDS = [
  'persistentVolumeClaims',
  'volumeSnapshots',
  'virtualMachineSnapshots',
  'configMaps',
  'roleBindings',
  'serviceAccounts',
] as const satisfies readonly (keyof FleetApi)[];

type Removable = Pick<KubeResource<KubeObject>, 'description' | 'list' | 'remove'>;

export type RemoveFleetApi = Readonly<Record<(typeof KINDS)[number] | 'jobs', Removable>> & { pods: Pick<FleetApi['pods'], 'list'> };

export interface RemoveFleetOptions {
  workloads: WorkloadApi;
  fleet: RemoveFleetApi;
  /** Namespace of the release. */
  namespace: string;
  /** Name of the controller's Deployment. */
  deployment: string;
  /** Selects the pods of that Deployment, and no other pod. */
  controllerSelector: string;
  /** Selects every object that the controller makes, and every pod of its Jobs. */
  managedSelector: string;
  /** Namespaces that the controller serves. Empty: all. */
  namespaces: readonly string[];
  clock: Clock;
  signal: AbortSignal;
}

/** Longer than the grace period of a pod. */
const CONTROLLER_LIMIT_MS = 35_000;
const WORKERS_LIMIT_MS = 45_000;

/** For each kind of the rest. */
const KIND_LIMIT_MS = 10_000;

/**
 * Goes on after each problem: nobody removes these objects later.
 * @returns what was not stopped or removed, a line each
 * @throws DiskliftError when `signal` is aborted
 */
export async function removeFleet(options: RemoveFleetOptions): Promise<string[]> {
  const { workloads, fleet, namespace, deployment, controllerSelector, managedSelector, namespaces, clock, signal } = options;
  const scopes = scopesOf(namespaces);
  const limits = { signal, limitMs: CALL_LIMIT_MS };

  async function removeAll(resource: Removable): Promise<DiskliftError | undefined> {
    for (const scope of scopes) {
      const objects: KubeObject[] = [];
      const listed = resource.list(scope, { labelSelector: managedSelector, ...limits }).then(({ items }) => {
        objects.push(...items);
      });
      const failure = await failureOf(listed, signal);
      // The CRD of the kind is not installed, or the namespace is gone.
      if (failure !== undefined && isApiFailure(failure, 'NotFound')) continue;
      if (failure !== undefined) return failure;
      for (const { metadata } of objects.filter(isPresent)) {
        const { uid } = metadata;
        const refusal = await failureOf(resource.remove(metadata, { uid, ...limits }), signal);
        // Another object has the name by now.
        if (refusal !== undefined && !isApiFailure(refusal, 'Conflict')) return refusal;
      }
    }
    return undefined;
  }

  async function stopWorkers(): Promise<string | undefined> {
    const failure = await removeAll(fleet.jobs);
    if (failure !== undefined) return failure.message;
    for (const scope of scopes) {
      const problem = await podProblem(fleet.pods.list(scope, { labelSelector: managedSelector, ...limits }), signal);
      if (problem !== undefined) return problem;
    }
    return undefined;
  }

  const stopped = await stopWorkloads({
    ...{ api: workloads, namespace, deployments: [deployment], jobs: [], cronJobs: [] },
    ...{ labelSelector: controllerSelector, limitMs: CONTROLLER_LIMIT_MS, clock, signal },
  });
  const problems = [stopped, await pollProblem({ limitMs: WORKERS_LIMIT_MS, clock, signal }, stopWorkers)];
  for (const kind of KINDS)
    problems.push(await pollProblem({ limitMs: KIND_LIMIT_MS, clock, signal }, async () => (await removeAll(fleet[kind]))?.message));
  return problems.filter((problem) => problem !== undefined);
}

function isPresent({ metadata }: KubeObject): boolean {
  return metadata.deletionTimestamp === undefined;
}
