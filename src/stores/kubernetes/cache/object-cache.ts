/** Objects by key, without those that have no use: the API server's schema lets none of them in, another server's might. */

import type { ExportObject } from '../client/contract.ts';

export interface ObjectCacheOptions {
  namespace: string;
  warn(message: string): void;
}

export class ObjectCache {
  private readonly options: ObjectCacheOptions;
  private objects = new Map<string, ExportObject>();
  /** Said once of each, for as long as it stays so. */
  private readonly malformed = new Set<string>();

  constructor(options: ObjectCacheOptions) {
    this.options = options;
  }

  get(key: string): ExportObject | undefined {
    return this.objects.get(key);
  }

  keys(): Iterable<string> {
    return this.objects.keys();
  }

  /** @returns the keys that are there no longer */
  replaceAll(items: readonly unknown[]): string[] {
    const before = this.objects;
    this.objects = new Map();
    for (const item of items) this.put(item);
    return [...before.keys()].filter((key) => !this.objects.has(key));
  }

  /** @returns the key under which there is something else now; undefined when that is not so */
  put(object: unknown): string | undefined {
    if (isExport(object, this.options.namespace)) {
      const key = keyOf(object.metadata);
      this.malformed.delete(key);
      this.objects.set(key, object);
      return key;
    }
    const { name } = metadataOf(object);
    const key = `${this.options.namespace}/${typeof name === 'string' ? name : '?'}`;
    if (!this.malformed.has(key)) {
      this.malformed.add(key);
      this.options.warn(`${key} is left alone: what the API server has of it is no DiskExport`);
    }
    return this.objects.delete(key) ? key : undefined;
  }

  /** @returns as `put` */
  remove(object: unknown): string | undefined {
    const { name } = metadataOf(object);
    const key = `${this.options.namespace}/${name}`;
    this.malformed.delete(key);
    return this.objects.delete(key) ? key : undefined;
  }
}

function keyOf({ namespace, name }: { namespace: string; name: string }): string {
  return `${namespace}/${name}`;
}

function metadataOf(object: unknown): Record<string, unknown> {
  const metadata = (object as { metadata?: unknown } | null | undefined)?.metadata;
  return typeof metadata === 'object' && metadata !== null ? (metadata as Record<string, unknown>) : {};
}

function isExport(object: unknown, namespace: string): object is ExportObject {
  const metadata = metadataOf(object);
  const texts = [metadata.name, metadata.uid, metadata.resourceVersion];
  return metadata.namespace === namespace && texts.every((text) => typeof text === 'string' && text !== '');
}
