/** A copy of all objects of one kind, in all namespaces or in some. */

import { createReflector, type ReflectorOptions, type RunningReflector } from '../stores/kubernetes/cache/reflector.ts';
import { ALL_NAMESPACES, type NamespaceScope, namespaceOf, scopesOf } from '../stores/kubernetes/client/contract.ts';
import type { KubeObject } from '../stores/kubernetes/client/objects.ts';

interface CachedKindOptions<T extends KubeObject> extends Omit<ReflectorOptions<T>, 'namespace'> {
  /** Empty: all namespaces. */
  namespaces: readonly string[];
}

/** All reflectors of one kind: one for all namespaces, or one for each. */
export class CachedKind<T extends KubeObject> {
  private readonly reflectors = new Map<NamespaceScope, RunningReflector<T>>();

  constructor({ namespaces, ...options }: CachedKindOptions<T>) {
    for (const namespace of scopesOf(namespaces)) this.reflectors.set(namespace, createReflector<T>({ ...options, namespace }));
  }

  get(key: string): T | undefined {
    return this.reflectorOf(key)?.get(key);
  }

  /** The reflector whose scope has the key; undefined for a namespace that is not watched. */
  reflectorOf(key: string): RunningReflector<T> | undefined {
    return this.reflectors.get(ALL_NAMESPACES) ?? this.reflectors.get(namespaceOf(key));
  }

  *keys(): Iterable<string> {
    for (const reflector of this.reflectors.values()) yield* reflector.keys();
  }

  all(): RunningReflector<T>[] {
    return [...this.reflectors.values()];
  }
}
