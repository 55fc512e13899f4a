/** The API server as a store of requests, in the process of the test. */

import { systemClock } from '../../src/common/clock.ts';
import { DiskliftError } from '../../src/common/errors.ts';
import { createReflector } from '../../src/stores/kubernetes/cache/reflector.ts';
import { createWorkQueue } from '../../src/stores/kubernetes/cache/work-queue.ts';
import type { ApiRequestFacts } from '../../src/stores/kubernetes/client/contract.ts';
import { createKubeApi } from '../../src/stores/kubernetes/client/kube-api.ts';
import { createKubeconfigAccess } from '../../src/stores/kubernetes/client/kubeconfig-access.ts';
import { leaseTimesOf } from '../../src/stores/kubernetes/leases/lease-claim.ts';
import { createEventPoster } from '../../src/stores/kubernetes/store/kubernetes-events.ts';
import { createKubernetesStore, type KubernetesStore } from '../../src/stores/kubernetes/store/kubernetes-store.ts';
import { createReferenceResolver } from '../../src/stores/kubernetes/store/resolve-reference.ts';
import type { ApiServer } from './api-server.ts';

export interface StoreInProcess extends AsyncDisposable {
  store: KubernetesStore;
  /** Aborted when the store is disposed. */
  signal: AbortSignal;
  requests: ApiRequestFacts[];
}

let processes = 0;

export function startStore(api: Pick<ApiServer, 'kubeconfig'>, namespace: string, leaseSeconds = 3): StoreInProcess {
  processes += 1;
  const access = createKubeconfigAccess({ kubeconfig: api.kubeconfig });
  const stopping = new AbortController();
  const requests: ApiRequestFacts[] = [];
  const onRequest = ({ verb, resource }: ApiRequestFacts) => void requests.push({ verb, resource });
  const kubeApi = createKubeApi({ access, clock: systemClock, userAgent: 'disklift/test', onRequest });
  const queue = createWorkQueue(systemClock, stopping.signal);
  const shared = { clock: systemClock, random: Math.random, warn: () => {} };
  const reflector = createReflector({ resource: kubeApi.exports, namespace, onKey: queue.add, ...shared });
  const store = createKubernetesStore({
    api: kubeApi,
    reflector,
    queue,
    holder: `process-${processes}`,
    executor: { podName: 'pod', nodeName: 'node' },
    times: leaseTimesOf(leaseSeconds),
    stopping: stopping.signal,
    ending: stopping.signal,
    resolve: createReferenceResolver({ api: kubeApi, namespace, ...shared, signal: stopping.signal }),
    postEvent: createEventPoster({ events: kubeApi.events, instance: 'pod', ...shared }).post,
    ...shared,
  });
  const running = reflector.run(stopping.signal);
  return {
    store,
    signal: stopping.signal,
    requests,
    async [Symbol.asyncDispose]() {
      stopping.abort(new DiskliftError('Cancelled', 'the test is done'));
      await running;
      await access.close();
    },
  };
}
