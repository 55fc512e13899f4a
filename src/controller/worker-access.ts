/**
 * ServiceAccount and RoleBinding of the workers, in each namespace that has an export of the controller. They exist
 * from the first Job until the last object of the last export is gone.
 */

import { isApiFailure } from '../stores/kubernetes/client/api-failure.ts';
import type { NamespaceScope } from '../stores/kubernetes/client/contract.ts';
import type { FleetApi } from '../stores/kubernetes/client/fleet-api.ts';
import { MANAGED_LABELS, MANAGED_SELECTOR } from './export-objects.ts';

export interface WorkerAccessOptions {
  api: Pick<FleetApi, 'serviceAccounts' | 'roleBindings'>;
  /** Name of both objects. */
  serviceAccountName: string;
  /** The fixed ClusterRole of the workers. */
  clusterRole: string;
  /** Awaited before each change. @throws DiskliftError `ExecutorLost` when another controller may lead */
  assertLeading(): Promise<void>;
}

export interface WorkerAccess {
  /**
   * Finds what an earlier process has made.
   * @returns the namespaces
   * @throws DiskliftError of the API server
   */
  adopt(scopes: readonly NamespaceScope[]): Promise<Iterable<string>>;
  /** Does nothing when they exist already. @throws DiskliftError of the API server */
  ensure(namespace: string): Promise<void>;
  /**
   * Does nothing in a namespace without them.
   * @param isIdle asked right before: no export of the namespace needs them
   * @throws DiskliftError of the API server
   */
  removeWhenIdle(namespace: string, isIdle: () => boolean): Promise<void>;
  /** Forgets what was made, so that the next `ensure` looks again: another program may have deleted it. */
  forget(namespace: string): void;
}

export function createWorkerAccess({ api, serviceAccountName: name, clusterRole, assertLeading }: WorkerAccessOptions): WorkerAccess {
  /** Namespaces with both objects. */
  const ready = new Set<string>();
  /** Namespaces with objects of an earlier process, maybe not with both. */
  const found = new Set<string>();
  /** One change of a namespace at a time. */
  const changes = new Map<string, Promise<unknown>>();

  function inTurn(namespace: string, change: () => Promise<void>): Promise<void> {
    const before = changes.get(namespace) ?? Promise.resolve();
    const next = before.then(change, change);
    changes.set(namespace, next);
    const forget = () => {
      if (changes.get(namespace) === next) changes.delete(namespace);
    };
    next.then(forget, forget);
    return next;
  }

  return {
    async adopt(scopes) {
      for (const scope of scopes)
        for (const resource of [api.roleBindings, api.serviceAccounts])
          for (const { metadata } of (await resource.list(scope, { labelSelector: MANAGED_SELECTOR })).items)
            if (metadata.name === name) found.add(metadata.namespace);
      return found;
    },
    ensure(namespace) {
      return inTurn(namespace, async () => {
        if (ready.has(namespace)) return;
        const metadata = { namespace, name, labels: { ...MANAGED_LABELS } };
        await unlessThere(api.serviceAccounts.create({ metadata, automountServiceAccountToken: false }));
        await unlessThere(
          api.roleBindings.create({
            metadata,
            roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: clusterRole },
            subjects: [{ kind: 'ServiceAccount', name, namespace }],
          }),
        );
        ready.add(namespace);
      });
    },
    async removeWhenIdle(namespace, isIdle) {
      if (!(ready.has(namespace) || found.has(namespace)) || !isIdle()) return;
      await inTurn(namespace, async () => {
        if (!isIdle()) return;
        await assertLeading();
        await api.roleBindings.remove({ namespace, name });
        await api.serviceAccounts.remove({ namespace, name });
        ready.delete(namespace);
        found.delete(namespace);
      });
    },
    forget: (namespace) => void ready.delete(namespace),
  };
}

async function unlessThere(create: Promise<unknown>): Promise<void> {
  try {
    await create;
  } catch (error) {
    if (!isApiFailure(error, 'AlreadyExists')) throw error;
  }
}
