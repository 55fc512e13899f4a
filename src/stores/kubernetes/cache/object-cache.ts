/** The objects that a reflector has received. */

import type { NamespaceScope, ResourceDescription } from '../client/contract.ts';
import type { AnyObject } from '../client/objects.ts';

interface CacheOptions<T extends AnyObject> {
  resource: { description: Pick<ResourceDescription, 'kind' | 'isClusterScoped'> };
  namespace: NamespaceScope;
  transform?: ((object: T) => T) | undefined;
  warn(message: string): void;
}

/**
 * The objects by key: `NAMESPACE/NAME`, or `NAME` for a cluster-scoped kind. Objects without the required metadata are
 * left out: another server's schema may admit them.
 */
export class ObjectCache<T extends AnyObject> {
  private readonly options: CacheOptions<T>;
  private objects = new Map<string, T>();
  /** Keys of malformed objects, so that each is reported once. */
  private readonly malformed = new Set<string>();

  constructor(options: CacheOptions<T>) {
    this.options = options;
  }

  get(key: string): T | undefined {
    return this.objects.get(key);
  }

  keys(): Iterable<string> {
    return this.objects.keys();
  }

  /** @returns the keys that were removed */
  replaceAll(items: readonly unknown[]): string[] {
    const before = this.objects;
    this.objects = new Map();
    for (const item of items) this.put(item);
    return [...before.keys()].filter((key) => !this.objects.has(key));
  }

  /** The object as the cache keeps it. A malformed object stays as it is. */
  slim(object: T): T {
    if (!this.isWellFormed(object)) return object;
    // They can be the larger part of an object, and nothing reads them.
    delete metadataOf(object).managedFields;
    const { transform } = this.options;
    return transform === undefined ? object : transform(object);
  }

  /** @returns the key whose object has changed; undefined when none has */
  put(object: unknown): string | undefined {
    const key = this.keyOf(object);
    if (this.isWellFormed(object)) {
      this.malformed.delete(key);
      this.objects.set(key, this.slim(object));
      return key;
    }
    if (!this.malformed.has(key)) {
      this.malformed.add(key);
      this.options.warn(`${key} is ignored: the API server sends an object that is no ${this.options.resource.description.kind}`);
    }
    return this.objects.delete(key) ? key : undefined;
  }

  /** @returns the key if its object was there */
  remove(object: unknown): string | undefined {
    const key = this.keyOf(object);
    this.malformed.delete(key);
    return this.objects.delete(key) ? key : undefined;
  }

  private get isClusterScoped(): boolean {
    return this.options.resource.description.isClusterScoped ?? false;
  }

  /** A malformed object of a watch on one namespace has the key that it would have in that namespace. */
  private keyOf(object: unknown): string {
    const { namespace, name } = metadataOf(object);
    if (this.isClusterScoped) return textOr(name, '?');
    const watched = this.options.namespace;
    return `${typeof watched === 'string' ? watched : textOr(namespace, '?')}/${textOr(name, '?')}`;
  }

  private isWellFormed(object: unknown): object is T {
    const { namespace, name, uid, resourceVersion } = metadataOf(object);
    const watched = this.options.namespace;
    const hasText = (value: unknown) => typeof value === 'string' && value !== '';
    if (![name, uid, resourceVersion].every(hasText)) return false;
    return this.isClusterScoped || (typeof watched === 'string' ? namespace === watched : hasText(namespace));
  }
}

/** An empty object for a value without metadata. */
export function metadataOf(object: unknown): Record<string, unknown> {
  const metadata = (object as { metadata?: unknown } | null | undefined)?.metadata;
  return typeof metadata === 'object' && metadata !== null ? (metadata as Record<string, unknown>) : {};
}

function textOr(value: unknown, otherwise: string): string {
  return typeof value === 'string' ? value : otherwise;
}
