/** Calls that end with the process, whatever the API server does. */

import type { CallOptions, KubeApi, KubeObject, KubeResource } from './contract.ts';

/** @param signal ends calls that are under way, and lets none begin any more; watches have their own */
export function limitApi(api: KubeApi, signal: AbortSignal): KubeApi {
  return {
    exports: limitResource(api.exports, signal),
    leases: limitResource(api.leases, signal),
    events: limitResource(api.events, signal),
    pods: limitResource(api.pods, signal),
    secrets: limitResource(api.secrets, signal),
    configMaps: limitResource(api.configMaps, signal),
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
