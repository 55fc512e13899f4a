/** The calls for one kind of object, and their paths. "API Concepts" in the Kubernetes documentation. */

import { throwIfAborted } from '../../../common/abortable.ts';
import { MIB } from '../../../common/bytes.ts';
import { type ApiConnection, type ApiRequest, describe } from './api-connection.ts';
import { isApiFailure, unansweredError, unusableError } from './api-failure.ts';
import {
  ALL_NAMESPACES,
  type KubeResource,
  type NamespaceScope,
  namespaceText,
  type ObjectName,
  type ResourceDescription,
  type WatchEvent,
} from './contract.ts';
import type { AnyObject } from './objects.ts';

/** Enough for most namespaces at once. A page that is too large is requested again with half as many objects. */
const PAGE_SIZE = 500;

/** Limit of a page of several objects. */
const MAX_PAGE_BYTES = 32 * MIB;

type Rest = Omit<ApiRequest, 'resource' | 'path' | 'target'> & { resource?: string };

interface Page {
  metadata: { resourceVersion: string; continue?: string };
  items: unknown[];
}

export function createApiResource<T extends AnyObject>(connection: ApiConnection, description: ResourceDescription): KubeResource<T> {
  const { group, version, kind, plural, isClusterScoped = false } = description;
  const type = { apiVersion: group === '' ? version : `${group}/${version}`, kind };
  const root = group === '' ? `/api/${version}` : `/apis/${group}/${version}`;

  function ofNamespace(namespace: NamespaceScope, rest: Rest): ApiRequest {
    const within = isClusterScoped || namespace === ALL_NAMESPACES ? '' : `/namespaces/${encodeURIComponent(namespace)}`;
    const target = `of ${isClusterScoped ? 'the cluster' : namespaceText(namespace)}`;
    return { resource: plural, target, path: `${root}${within}/${plural}`, ...rest };
  }

  function ofObject(
    { namespace = '', name }: Pick<ObjectName, 'name'> & Partial<ObjectName>,
    rest: Rest & { subresource?: string | undefined },
  ): ApiRequest {
    const { subresource, ...others } = rest;
    const [resource, suffix] = subresource === undefined ? [plural, ''] : [`${plural}/${subresource}`, `/${subresource}`];
    const { path } = ofNamespace(namespace, others);
    return { resource, target: textOf({ namespace, name }), path: `${path}/${encodeURIComponent(name)}${suffix}`, ...others };
  }

  async function absentAs<V>(absent: V, call: Promise<unknown>): Promise<unknown> {
    try {
      return await call;
    } catch (error) {
      if (isApiFailure(error, 'NotFound')) return absent;
      throw error;
    }
  }

  return {
    description,

    get: (target, options) =>
      absentAs(undefined, connection.call(ofObject(target, { verb: 'get', method: 'GET' }), options)) as Promise<T | undefined>,

    async list(namespace, { labelSelector, fieldSelector, prepare = (item: T) => item, ...options } = {}) {
      const items: T[] = [];
      let next: string | undefined;
      let limit = PAGE_SIZE;
      for (;;) {
        const query = { limit, continue: next, labelSelector, fieldSelector };
        const request = ofNamespace(namespace, { verb: 'list', method: 'GET', query, maxBytes: MAX_PAGE_BYTES });
        let answer: unknown;
        try {
          answer = await connection.call(request, options);
        } catch (error) {
          if (!isApiFailure(error, 'TooLarge') || limit === 1) throw error;
          limit = Math.ceil(limit / 2);
          continue;
        }
        if (!isPage(answer)) throw unusableError(describe(request), 'its answer is not a list');
        for (const item of answer.items as T[]) items.push(prepare(item));
        const { resourceVersion, continue: rest } = answer.metadata;
        if (rest === undefined || rest === '') return { resourceVersion, items };
        next = rest;
      }
    },

    async *watch(namespace, { resourceVersion, timeoutSeconds, labelSelector, signal, onOpen }) {
      const query = { watch: true, allowWatchBookmarks: true, resourceVersion, timeoutSeconds, labelSelector };
      const request = ofNamespace(namespace, { verb: 'watch', method: 'GET', query });
      const body = await connection.open(request, signal);
      onOpen?.();
      yield* readWatchEvents(body, { what: describe(request), signal });
    },

    create: (object, options) => {
      const request = ofNamespace(object.metadata.namespace, { verb: 'create', method: 'POST', body: { ...type, ...object } });
      return connection.call({ ...request, target: textOf(object.metadata) }, options) as Promise<T>;
    },

    replace: (object, options) =>
      connection.call(ofObject(object.metadata, { verb: 'update', method: 'PUT', body: { ...type, ...object } }), options) as Promise<T>,

    patch: (target, { patch, subresource, ...options }) => {
      const contentType = 'application/merge-patch+json';
      return connection.call(
        ofObject(target, { verb: 'patch', method: 'PATCH', body: patch, contentType, subresource }),
        options,
      ) as Promise<T>;
    },

    async remove(target, { uid, resourceVersion, propagationPolicy = 'Background', ...options } = {}) {
      // The garbage collector deletes the dependents of the object, such as its Lease, afterwards.
      const body = { apiVersion: 'v1', kind: 'DeleteOptions', propagationPolicy, preconditions: { uid, resourceVersion } };
      const call = connection.call(ofObject(target, { verb: 'delete', method: 'DELETE', body }), options);
      return (await absentAs(false, call)) !== false;
    },
  };
}

/** The object as messages name it. */
function textOf({ namespace, name }: ObjectName): string {
  return namespace === '' ? name : `${namespace}/${name}`;
}

function isPage(answer: unknown): answer is Page {
  const { metadata, items } = (answer ?? {}) as Partial<Page>;
  return typeof metadata?.resourceVersion === 'string' && Array.isArray(items);
}

/** The API server stores at most 1.5 MiB an object. A longer line is no event. */
const MAX_LINE_CHARACTERS = 8 * MIB;

interface WatchedBody {
  /** The watch as messages name it. */
  what: string;
  signal: AbortSignal;
}

/**
 * Reads one event a line. Ends with the body. An incomplete last line is dropped, because the next watch receives that
 * event again.
 * @throws DiskliftError of a failure `Unavailable` when the connection breaks or a line is not an event; `Cancelled`
 */
async function* readWatchEvents(body: ReadableStream<Uint8Array>, { what, signal }: WatchedBody): AsyncGenerator<WatchEvent> {
  const decoder = new TextDecoder();
  let pending = '';
  try {
    for await (const chunk of body) {
      const lines = (pending + decoder.decode(chunk, { stream: true })).split('\n');
      pending = lines.pop() as string;
      if (pending.length > MAX_LINE_CHARACTERS) throw unusableError(what, 'it sends a line without an end');
      for (const line of lines) if (line.trim() !== '') yield parseEvent(line, what);
    }
  } catch (error) {
    throwIfAborted(signal);
    throw unansweredError(what, error);
  }
}

function parseEvent(line: string, what: string): WatchEvent {
  let event: Partial<WatchEvent> | null;
  try {
    event = JSON.parse(line);
  } catch {
    throw unusableError(what, 'it sends what is not JSON');
  }
  if (typeof event?.type !== 'string' || typeof event.object !== 'object' || event.object === null)
    throw unusableError(what, 'it sends what is no event');
  return { type: event.type, object: event.object };
}
