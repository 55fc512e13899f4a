/** The kinds of objects that disklift asks the API server about. */

import { type ApiConnectionOptions, createApiConnection } from './api-connection.ts';
import { isApiFailure } from './api-failure.ts';
import { createApiResource } from './api-resource.ts';
import { createApiReviews } from './api-reviews.ts';
import type { KubeApi, NamespaceObject, WorkloadApi } from './contract.ts';

const CORE = '/api/v1';

/** Loading this file takes half a second and 90 MB, which are client-node's: whoever needs no API server must not. */
export function createKubeApi(options: ApiConnectionOptions): KubeApi {
  const connection = createApiConnection(options);
  return {
    exports: createApiResource(connection, { group: 'disklift.dev', version: 'v1alpha1', kind: 'DiskExport', plural: 'diskexports' }),
    leases: createApiResource(connection, { group: 'coordination.k8s.io', version: 'v1', kind: 'Lease', plural: 'leases' }),
    events: createApiResource(connection, { group: '', version: 'v1', kind: 'Event', plural: 'events' }),
    pods: createApiResource(connection, { group: '', version: 'v1', kind: 'Pod', plural: 'pods' }),
    secrets: createApiResource(connection, { group: '', version: 'v1', kind: 'Secret', plural: 'secrets' }),
    configMaps: createApiResource(connection, { group: '', version: 'v1', kind: 'ConfigMap', plural: 'configmaps' }),
    namespaces: {
      async get(name, options) {
        const path = `${CORE}/namespaces/${encodeURIComponent(name)}`;
        try {
          const request = { verb: 'get', method: 'GET', resource: 'namespaces', target: name, path } as const;
          return (await connection.call(request, options)) as NamespaceObject;
        } catch (error) {
          if (isApiFailure(error, 'NotFound')) return undefined;
          throw error;
        }
      },
    },
    reviews: createApiReviews(connection),
    discovery: {
      async serverAddresses(options) {
        const request = { verb: 'get', method: 'GET', resource: 'versions', target: 'of the core API', path: '/api' } as const;
        const { serverAddressByClientCIDRs: found } = (await connection.call(request, options)) as { serverAddressByClientCIDRs?: unknown };
        const addresses = Array.isArray(found) ? found.map((each: { serverAddress?: unknown } | null) => each?.serverAddress) : [];
        return addresses.filter((address) => typeof address === 'string');
      },
    },
  };
}

/** What no sidecar asks for: to stop those of a release. */
export function createWorkloadApi(options: ApiConnectionOptions): WorkloadApi {
  const connection = createApiConnection(options);
  return {
    deployments: createApiResource(connection, { group: 'apps', version: 'v1', kind: 'Deployment', plural: 'deployments' }),
    jobs: createApiResource(connection, { group: 'batch', version: 'v1', kind: 'Job', plural: 'jobs' }),
    cronJobs: createApiResource(connection, { group: 'batch', version: 'v1', kind: 'CronJob', plural: 'cronjobs' }),
    pods: createApiResource(connection, { group: '', version: 'v1', kind: 'Pod', plural: 'pods' }),
  };
}
