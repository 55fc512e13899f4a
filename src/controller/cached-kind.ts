/** A copy of all objects of one kind, in all namespaces or in some. */

import { createReflector, type ReflectorOptions, type RunningReflector } from '../stores/kubernetes/cache/reflector.ts';
import { ALL_NAMESPACES, type NamespaceScope } from '../stores/kubernetes/client/contract.ts';
import type { KubeObject } from '../stores/kubernetes/client/objects.ts';

interface CachedKindOptions<T extends KubeObject> extends Omit<ReflectorOptions<T>, 'namespace'> {
  /** Empty: all namespaces. */
  namespaces: readonly string[];
}

/** All reflectors of one kind: one for all namespaces, or one for each. */
export class CachedKind<T extends KubeObject> {
  private readonly reflectors = new Map<NamespaceScope, RunningReflector<T>>();

  constructor({ namespaces, ...options }: CachedKindOptions<T>) {
    const scopes: readonly NamespaceScope[] = namespaces.length === 0 ? [ALL_NAMESPACES] : namespaces;
    for (const namespace of scopes) this.reflectors.set(namespace, createReflector<T>({ ...options, namespace }));
  }

  get(key: string): T | undefined {
    const scope = this.reflectors.get(ALL_NAMESPACES) ?? this.reflectors.get(key.slice(0, key.indexOf('/')));
    return scope?.get(key);
  }

  *keys(): Iterable<string> {
    for (const reflector of this.reflectors.values()) yield* reflector.keys();
  }

  all(): RunningReflector<T>[] {
    return [...this.reflectors.values()];
  }
}
