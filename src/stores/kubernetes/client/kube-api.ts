/** The kinds of objects that disklift uses, and the reviews of tokens and rights. */

import { type ApiConnection, type ApiConnectionOptions, type ApiRequest, createApiConnection, describe } from './api-connection.ts';
import { unusableError } from './api-failure.ts';
import { createApiResource } from './api-resource.ts';
import type { ApiReviews, CallOptions, KubeApi, KubeResource, ReviewedUser, WorkloadApi } from './contract.ts';
import type { KubeObject, NamespaceObject } from './objects.ts';
import { RESOURCES } from './resources.ts';

/** Loading this file loads undici, which takes 28 MB. Programs without an API server must not load it. */
export function createKubeApi(options: ApiConnectionOptions): KubeApi {
  const connection = createApiConnection(options);
  const namespaces = createApiResource<NamespaceObject>(connection, RESOURCES.namespaces);
  return {
    exports: createApiResource(connection, RESOURCES.exports),
    leases: createApiResource(connection, RESOURCES.leases),
    events: createApiResource(connection, RESOURCES.events),
    pods: createApiResource(connection, RESOURCES.pods),
    secrets: createApiResource(connection, RESOURCES.secrets),
    configMaps: createApiResource(connection, RESOURCES.configMaps),
    virtualMachineBackups: createApiResource(connection, RESOURCES.virtualMachineBackups),
    virtualMachineBackupTrackers: createApiResource(connection, RESOURCES.virtualMachineBackupTrackers),
    virtualMachines: createApiResource(connection, RESOURCES.virtualMachines),
    namespaces: { get: (name, options) => namespaces.get({ namespace: '', name }, options) },
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

/** The workloads that the uninstall hook stops. No sidecar uses them. */
export function createWorkloadApi(options: ApiConnectionOptions): WorkloadApi {
  const connection = createApiConnection(options);
  return {
    deployments: createApiResource(connection, RESOURCES.deployments),
    jobs: createApiResource(connection, RESOURCES.jobs),
    cronJobs: createApiResource(connection, RESOURCES.cronJobs),
    pods: createApiResource(connection, RESOURCES.pods),
  };
}

interface Review {
  group: 'authentication.k8s.io' | 'authorization.k8s.io';
  kind: 'TokenReview' | 'SubjectAccessReview';
  resource: string;
  /** The subject as messages name it, without text that the client of a page has chosen. */
  target: string;
  spec: object;
}

function createApiReviews(connection: ApiConnection): ApiReviews {
  /** @returns the status, in which any field may still be missing */
  async function review<T>({ group, kind, resource, target, spec }: Review, options: Parameters<ApiConnection['call']>[1]): Promise<T> {
    const apiVersion = `${group}/v1`;
    const body = { apiVersion, kind, spec };
    const request: ApiRequest = { verb: 'create', resource, target, method: 'POST', path: `/apis/${apiVersion}/${resource}`, body };
    const { status } = ((await connection.call(request, options)) ?? {}) as { status?: T };
    if (typeof status !== 'object' || status === null) throw unusableError(describe(request), 'its answer has no status');
    return status;
  }

  return {
    async authenticate(token, options) {
      const { authenticated, user } = await review<{ authenticated?: unknown; user?: Partial<ReviewedUser> }>(
        {
          group: 'authentication.k8s.io',
          kind: 'TokenReview',
          resource: 'tokenreviews',
          target: 'of a bearer token',
          spec: { token },
        },
        options,
      );
      const { username, uid, groups, extra } = user ?? {};
      return authenticated === true && username ? { username, uid, groups, extra } : undefined;
    },

    async permits({ username: user, uid, groups, extra }, action, options) {
      const { allowed } = await review<{ allowed?: unknown }>(
        {
          group: 'authorization.k8s.io',
          kind: 'SubjectAccessReview',
          resource: 'subjectaccessreviews',
          target: 'of the user of that token',
          spec: { user, uid, groups, extra, ...action },
        },
        options,
      );
      return allowed === true;
    },
  };
}

/**
 * Ends all calls with the process.
 * @param signal ends running calls and prevents new ones; watches have signals of their own
 */
export function limitApi(api: KubeApi, signal: AbortSignal): KubeApi {
  return {
    exports: limitResource(api.exports, signal),
    leases: limitResource(api.leases, signal),
    events: limitResource(api.events, signal),
    pods: limitResource(api.pods, signal),
    secrets: limitResource(api.secrets, signal),
    configMaps: limitResource(api.configMaps, signal),
    virtualMachineBackups: limitGet(api.virtualMachineBackups, signal),
    virtualMachineBackupTrackers: limitGet(api.virtualMachineBackupTrackers, signal),
    virtualMachines: limitGet(api.virtualMachines, signal),
    namespaces: { get: (name, options) => api.namespaces.get(name, limited(options, signal)) },
    reviews: {
      authenticate: (token, options) => api.reviews.authenticate(token, limited(options, signal)),
      permits: (user, action, options) => api.reviews.permits(user, action, limited(options, signal)),
    },
    discovery: { serverAddresses: (options) => api.discovery.serverAddresses(limited(options, signal)) },
  };
}

function limited<O extends CallOptions>(options: O | undefined, signal: AbortSignal): O {
  return { ...options, signal: options?.signal === undefined ? signal : AbortSignal.any([options.signal, signal]) } as O;
}

function limitGet<T extends KubeObject>(resource: Pick<KubeResource<T>, 'get'>, signal: AbortSignal): Pick<KubeResource<T>, 'get'> {
  return { get: (target, options) => resource.get(target, limited(options, signal)) };
}

function limitResource<T extends KubeObject>(resource: KubeResource<T>, signal: AbortSignal): KubeResource<T> {
  return {
    description: resource.description,
    get: (target, options) => resource.get(target, limited(options, signal)),
    list: (namespace, options) => resource.list(namespace, limited(options, signal)),
    watch: (namespace, options) => resource.watch(namespace, options),
    create: (object, options) => resource.create(object, limited(options, signal)),
    replace: (object, options) => resource.replace(object, limited(options, signal)),
    patch: (target, options) => resource.patch(target, limited(options, signal)),
    remove: (target, options) => resource.remove(target, limited(options, signal)),
  };
}
