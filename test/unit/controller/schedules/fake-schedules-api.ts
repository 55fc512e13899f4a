/**
 * Schedules, exports and events in memory, for faults that no real API server produces on request. It has the rules of
 * the API server that the code relies on: unique names, preconditions on the UID, merge patches, and status apart from
 * spec.
 */

import { throwIfAborted } from '../../../../src/common/abortable.ts';
import type { Clock } from '../../../../src/common/clock.ts';
import type { SchedulesApi } from '../../../../src/controller/schedules/perform-schedule.ts';
import { refusedError, unansweredError, unusableError } from '../../../../src/stores/kubernetes/client/api-failure.ts';
import type { WatchEvent } from '../../../../src/stores/kubernetes/client/contract.ts';
import type { KubeObject } from '../../../../src/stores/kubernetes/client/objects.ts';
import { RESOURCES } from '../../../../src/stores/kubernetes/client/resources.ts';

/** Unanswered: the call has no effect. Lost: it has, but its answer does not arrive. */
export type FaultKind = 'unanswered' | 'lost' | 'refused' | 'hangs';

export const FAULT_KINDS: readonly FaultKind[] = ['unanswered', 'lost', 'refused', 'hangs'];

/** The object with the fields that every kind may have. */
interface FakeObject extends KubeObject {
  spec?: Record<string, unknown>;
  status?: Record<string, unknown>;
  type?: string;
  reason?: string;
  message?: string;
}

type Fields = Record<string, unknown>;

export interface FakeSchedulesApi {
  readonly api: SchedulesApi;
  readonly schedules: ReadonlyMap<string, FakeObject>;
  readonly exports: ReadonlyMap<string, FakeObject>;
  readonly events: ReadonlyMap<string, FakeObject>;
  /** Each call as `create exports vms/nightly-1`, without the watch. */
  readonly calls: string[];
  /** The fault of a call; undefined: none. */
  fault?: ((call: string, index: number) => FaultKind | undefined) | undefined;
  /** Changes as users and workers make them. */
  putSchedule(object: KubeObject): void;
  removeSchedule(key: string): void;
  putExport(object: KubeObject): void;
  setExportStatus(key: string, status: Fields): void;
  /** Called after each change of an export. */
  onExport?: ((key: string) => void) | undefined;
}

const CLIENT_LIMIT_MS = 15_000;

function mergePatch(target: unknown, patch: unknown): unknown {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch;
  const merged: Fields = typeof target === 'object' && target !== null ? { ...target } : {};
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete merged[name];
    else merged[name] = mergePatch(merged[name], value);
  }
  return merged;
}

export function createFakeSchedulesApi(clock: Clock): FakeSchedulesApi {
  let version = 10;
  const stores = {
    schedules: new Map<string, FakeObject>(),
    exports: new Map<string, FakeObject>(),
    events: new Map<string, FakeObject>(),
  };
  type Kind = keyof typeof stores;
  const watchers = new Set<(event: WatchEvent) => void>();
  const calls: string[] = [];

  function store(kind: Kind, object: FakeObject): FakeObject {
    const key = `${object.metadata.namespace}/${object.metadata.name}`;
    version += 1;
    const type = stores[kind].has(key) ? 'MODIFIED' : 'ADDED';
    const stored = structuredClone({ ...object, metadata: { ...object.metadata, resourceVersion: String(version) } });
    stores[kind].set(key, stored);
    changed(kind, key, { type, object: stored });
    return structuredClone(stored);
  }

  function drop(kind: Kind, key: string): void {
    const object = stores[kind].get(key);
    stores[kind].delete(key);
    changed(kind, key, { type: 'DELETED', object });
  }

  function changed(kind: Kind, key: string, event: WatchEvent): void {
    if (kind === 'schedules') for (const watcher of watchers) watcher(structuredClone(event));
    if (kind === 'exports') fake.onExport?.(key);
  }

  function refuse(status: number, reason: string, what: string): never {
    throw refusedError({ what, status, body: JSON.stringify({ reason, message: reason }) }, clock.nowMs());
  }

  /** The reflector and the poster of events rely on the time limit of the client. All other calls have their own. */
  async function hang(what: string, signal: AbortSignal | undefined): Promise<never> {
    if (what !== 'list schedules' && !what.includes(' events ')) return new Promise(() => {});
    await clock.delay(CLIENT_LIMIT_MS, signal ?? new AbortController().signal);
    throw unusableError(what, 'no answer');
  }

  async function call<T>(what: string, signal: AbortSignal | undefined, effect: () => T): Promise<T> {
    const index = calls.push(what) - 1;
    await Promise.resolve();
    if (signal !== undefined) throwIfAborted(signal);
    const fault = fake.fault?.(what, index);
    if (fault === 'hangs') return hang(what, signal);
    if (fault === 'refused') return refuse(403, 'Forbidden', what);
    if (fault === 'unanswered') throw unansweredError(what, new Error('connection refused'));
    const answer = effect();
    if (fault === 'lost') throw unansweredError(what, new Error('connection reset'));
    return answer;
  }

  function resource(kind: Kind) {
    const keyOf = ({ namespace, name }: { namespace: string; name: string }) => `${namespace}/${name}`;
    return {
      description: RESOURCES[kind],
      get: (target: { namespace: string; name: string }, options: { signal?: AbortSignal } = {}) =>
        call(`get ${kind} ${keyOf(target)}`, options.signal, () => structuredClone(stores[kind].get(keyOf(target)))),
      list: (_: unknown, { labelSelector = '', signal }: { labelSelector?: string; signal?: AbortSignal } = {}) =>
        call(`list ${kind}`, signal, () => {
          const [label = '', value] = labelSelector.split('=');
          const items = [...stores[kind].values()].filter(({ metadata }) => label === '' || metadata.labels?.[label] === value);
          return { resourceVersion: String(version), items: structuredClone(items) };
        }),
      async *watch(
        _: unknown,
        { signal, timeoutSeconds, onOpen }: { signal: AbortSignal; timeoutSeconds: number; onOpen?(): void },
      ): AsyncGenerator<WatchEvent> {
        const waiting: WatchEvent[] = [];
        let wake = () => {};
        const watcher = (event: WatchEvent) => {
          waiting.push(event);
          wake();
        };
        watchers.add(watcher);
        const ended = new AbortController();
        const timeout = clock.delay(timeoutSeconds * 1000, AbortSignal.any([signal, ended.signal]));
        timeout
          .catch(() => {})
          .then(() => {
            ended.abort();
            wake();
          });
        onOpen?.();
        try {
          while (!ended.signal.aborted) {
            const event = waiting.shift();
            if (event !== undefined) yield event;
            else
              await new Promise<void>((resolve) => {
                wake = resolve;
              });
          }
        } finally {
          watchers.delete(watcher);
          ended.abort();
        }
        throwIfAborted(signal);
      },
      create: (object: object, options: { signal?: AbortSignal } = {}) => {
        const given = object as FakeObject;
        const key = keyOf(given.metadata);
        return call(`create ${kind} ${key}`, options.signal, () => {
          if (stores[kind].has(key)) refuse(409, 'AlreadyExists', key);
          return store(kind, { ...given, metadata: { ...given.metadata, uid: `uid-${version}` } });
        });
      },
      patch: (target: { namespace: string; name: string }, options: { patch: Fields; subresource?: string; signal?: AbortSignal }) => {
        const key = keyOf(target);
        return call(`patch ${kind}${options.subresource === undefined ? '' : '/status'} ${key}`, options.signal, () => {
          const object = stores[kind].get(key) ?? refuse(404, 'NotFound', key);
          const { metadata = {}, ...rest } = options.patch as { metadata?: { uid?: string } };
          if (metadata.uid !== undefined && metadata.uid !== object.metadata.uid) refuse(409, 'Conflict', key);
          const patched = mergePatch(object, rest) as FakeObject;
          const { status, ...others } = patched;
          const { status: before, ...sameOthers } = object;
          // As the API server, which ignores the status without its subresource, and all else with it.
          return store(
            kind,
            options.subresource === 'status'
              ? { ...sameOthers, ...(status && { status }) }
              : { ...others, ...(before && { status: before }) },
          );
        });
      },
      remove: (target: { namespace: string; name: string }, options: { uid?: string; signal?: AbortSignal } = {}) => {
        const key = keyOf(target);
        return call(`remove ${kind} ${key}`, options.signal, () => {
          const object = stores[kind].get(key);
          if (object === undefined) return false;
          if (options.uid !== undefined && options.uid !== object.metadata.uid) refuse(409, 'Conflict', key);
          drop(kind, key);
          return true;
        });
      },
    };
  }

  const fake: FakeSchedulesApi = {
    api: { schedules: resource('schedules'), exports: resource('exports'), events: resource('events') } as unknown as SchedulesApi,
    ...stores,
    calls,
    putSchedule: (object) => void store('schedules', object as FakeObject),
    removeSchedule: (key) => drop('schedules', key),
    putExport: (object) => void store('exports', object as FakeObject),
    setExportStatus(key, status) {
      const object = stores.exports.get(key);
      if (object !== undefined) store('exports', { ...object, status });
    },
  };
  return fake;
}
