/** Watches, selectors and merge patches of the API server in memory. */

import { throwIfAborted } from '../../../src/common/abortable.ts';
import type { Clock } from '../../../src/common/clock.ts';
import { isFields } from '../../../src/resource/schema.ts';
import type { WatchEvent } from '../../../src/stores/kubernetes/client/contract.ts';
import { copyOf, type StoredObject } from './memory-fleet.ts';

export interface StoredEvent {
  version: number;
  type: 'ADDED' | 'MODIFIED' | 'DELETED';
  object: StoredObject;
  /** The object before the change. */
  before: StoredObject | undefined;
}

interface Selection {
  namespace?: string | undefined;
  labelSelector?: string | undefined;
  fieldSelector?: string | undefined;
}

/** Selectors are of the form NAME=VALUE. */
export function matches(object: StoredObject, { namespace, labelSelector, fieldSelector }: Selection): boolean {
  if (namespace !== undefined && object.metadata.namespace !== namespace) return false;
  if (labelSelector !== undefined) {
    const [name = '', value] = labelSelector.split('=');
    if (object.metadata.labels?.[name] !== value) return false;
  }
  if (fieldSelector === undefined) return true;
  const [path = '', value] = fieldSelector.split('=');
  return path.split('.').reduce<unknown>((found, name) => (isFields(found) ? found[name] : undefined), object) === value;
}

export interface WatchParts extends Selection {
  resourceVersion: string;
  timeoutSeconds: number;
  signal: AbortSignal;
  clock: Clock;
  /** Resolves when the server has accepted the watch. */
  opened(): Promise<void>;
  events(): readonly StoredEvent[];
  wakes: Set<() => void>;
}

export async function* openWatch(parts: WatchParts): AsyncGenerator<WatchEvent> {
  const { signal, clock, wakes } = parts;
  await parts.opened();
  let version = Number(parts.resourceVersion);
  const ended = new AbortController();
  const stopped = AbortSignal.any([signal, ended.signal]);
  let hasEnded = false;
  let wake = () => {};
  const onWake = () => wake();
  wakes.add(onWake);
  signal.addEventListener('abort', onWake);
  const timer = clock.delay(parts.timeoutSeconds * 1000, stopped).then(
    () => {
      hasEnded = true;
      onWake();
    },
    () => {},
  );
  try {
    while (!hasEnded && !signal.aborted) {
      const { promise, resolve } = Promise.withResolvers<void>();
      wake = resolve;
      for (const event of newer(parts.events(), version)) {
        version = event.version;
        const seen = seenAs(event, parts);
        if (seen !== undefined) yield copyOf(seen);
      }
      if (!hasEnded && !signal.aborted) await promise;
    }
    throwIfAborted(signal);
  } finally {
    wakes.delete(onWake);
    signal.removeEventListener('abort', onWake);
    ended.abort();
    await timer;
  }
}

function newer(events: readonly StoredEvent[], version: number): readonly StoredEvent[] {
  return events.slice(events.findLastIndex((event) => event.version <= version) + 1);
}

/** An object whose labels begin or cease to match is added or deleted, as the watch sees it. */
function seenAs({ type, object, before }: StoredEvent, selection: Selection): WatchEvent | undefined {
  const [was, is] = [before !== undefined && matches(before, selection), matches(object, selection)];
  if (type === 'DELETED') return was ? { type, object } : undefined;
  if (is) return { type: was ? 'MODIFIED' : 'ADDED', object };
  return was ? { type: 'DELETED', object } : undefined;
}

/** RFC 7386. */
export function mergePatched(target: unknown, patch: unknown): unknown {
  if (!isFields(patch)) return patch;
  const merged: Record<string, unknown> = isFields(target) ? { ...target } : {};
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete merged[name];
    else if (value !== undefined) merged[name] = mergePatched(merged[name], value);
  }
  return merged;
}
