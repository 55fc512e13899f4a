/** The controller in the process of a test, on the API server of the tests. */

import { systemClock } from '../../src/common/clock.ts';
import { DiskliftError } from '../../src/common/errors.ts';
import type { Controller } from '../../src/controller/contract.ts';
import { createController } from '../../src/controller/run-controller.ts';
import type { SlotLimits } from '../../src/controller/slot-queue.ts';
import type { JobTemplate } from '../../src/controller/worker-job.ts';
import type { ApiRequestFacts } from '../../src/stores/kubernetes/client/contract.ts';
import { createFleetApi } from '../../src/stores/kubernetes/client/fleet-api.ts';
import { createKubeconfigAccess } from '../../src/stores/kubernetes/client/kubeconfig-access.ts';
import { createEventPoster } from '../../src/stores/kubernetes/store/kubernetes-events.ts';
import { destinationServer } from '../../src/wiring/destinations.ts';
import type { ApiServer } from './api-server.ts';

const WORKER_ROLE = 'disklift-worker';

export const TEMPLATE: JobTemplate = {
  image: 'registry.example/disklift:test',
  imagePullPolicy: 'Never',
  serviceAccountName: 'disklift-worker',
  labels: {},
  annotations: {},
  nodeSelector: {},
  tolerations: [],
  imagePullSecrets: [],
  priorityClassName: undefined,
  resources: { requests: { cpu: '100m', memory: '256Mi' }, limits: { memory: '512Mi' } },
  env: [],
  securityContextMode: 'KubeVirt',
  seLinuxLevel: '',
};

export interface ControllerInProcess extends AsyncDisposable {
  controller: Controller;
  requests: ApiRequestFacts[];
  warnings: string[];
}

export interface ControllerInProcessOptions {
  namespaces?: readonly string[];
  /** The credentials of an account with fewer rights. */
  kubeconfig?: string;
  limits?: Partial<SlotLimits>;
  template?: Partial<JobTemplate>;
}

export function startController(
  api: ApiServer,
  { namespaces = [], kubeconfig = api.kubeconfig, limits = {}, template = {} }: ControllerInProcessOptions = {},
): ControllerInProcess {
  const access = createKubeconfigAccess({ kubeconfig });
  const requests: ApiRequestFacts[] = [];
  const warnings: string[] = [];
  const fleet = createFleetApi({
    access,
    clock: systemClock,
    userAgent: 'disklift/test',
    onRequest: ({ verb, resource }) => void requests.push({ verb, resource }),
  });
  const warn = (message: string, key?: string) => void warnings.push(key === undefined ? message : `${key}: ${message}`);
  const stopped = new AbortController();
  const controller = createController({
    api: fleet,
    namespaces,
    limits: { total: 20, perNamespace: 5, perNode: 4, ...limits },
    template: { ...TEMPLATE, ...template },
    podStartTimeoutMs: 60_000,
    workerClusterRole: WORKER_ROLE,
    hostOf: destinationServer,
    events: createEventPoster({ events: fleet.events, clock: systemClock, instance: 'controller', warn }),
    assertLeading: async () => {},
    clock: systemClock,
    random: Math.random,
    warn,
  });
  const running = controller.run(stopped.signal);
  return {
    controller,
    requests,
    warnings,
    async [Symbol.asyncDispose]() {
      stopped.abort(new DiskliftError('Cancelled', 'the test is done'));
      await running;
      await access.close();
    },
  };
}
