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
  };
}

function limitResource<T extends KubeObject>(resource: KubeResource<T>, signal: AbortSignal): KubeResource<T> {
  function limited<O extends CallOptions>(options?: O): O {
    return { ...options, signal: options?.signal === undefined ? signal : AbortSignal.any([options.signal, signal]) } as O;
  }
  return {
    get: (target, options) => resource.get(target, limited(options)),
    list: (namespace, options) => resource.list(namespace, limited(options)),
    watch: (namespace, options) => resource.watch(namespace, options),
    create: (object, options) => resource.create(object, limited(options)),
    replace: (object, options) => resource.replace(object, limited(options)),
    patch: (target, options) => resource.patch(target, limited(options)),
    remove: (target, options) => resource.remove(target, limited(options)),
  };
}
