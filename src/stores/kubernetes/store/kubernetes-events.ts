/** Events of core/v1 for `kubectl describe` and `kubectl events`. A failure to post one never fails the export. */

import { createHash } from 'node:crypto';
import { type Clock, timestamp } from '../../../common/clock.ts';
import { printable, truncated } from '../../../common/text.ts';
import type { RequestEvent } from '../../contract.ts';
import { isApiFailure } from '../client/api-failure.ts';
import type { KubeApi, ObjectName } from '../client/contract.ts';
import type { EventObject, ObjectMeta } from '../client/objects.ts';

export interface EventPosterOptions {
  events: Pick<KubeApi['events'], 'create' | 'patch'>;
  clock: Clock;
  /** Name of the pod. */
  instance: string;
  warn(message: string): void;
  /** Kind of the objects. Default: DiskExport. */
  kind?: string;
  /** Part of disklift that reports the events. Default: sidecar. */
  role?: 'sidecar' | 'controller';
}

export interface EventPoster {
  /**
   * An object has one event for each reason: a repetition increases its count and replaces its message. Never throws;
   * an event that the API server does not accept at once is dropped.
   */
  post(object: { metadata: ObjectMeta }, event: RequestEvent): Promise<void>;
  /** Waits for events that are being posted, at most a few seconds. */
  settled(): Promise<void>;
}

const COMPONENT = 'disklift';
const API_VERSION = 'disklift.dev/v1alpha1';

const LIMIT_MS = 5000;

/** Limits of the API server. */
const MAX_MESSAGE_CHARACTERS = 1024;
const MAX_NAME_CHARACTERS = 253;

export function createEventPoster(options: EventPosterOptions): EventPoster {
  const posting = new Set<Promise<void>>();
  const warned = new Set<string>();

  async function postSafely(object: { metadata: ObjectMeta }, event: RequestEvent): Promise<void> {
    try {
      await postOrCount(object.metadata, event, options);
    } catch (error) {
      // A Role without events and a terminating namespace cause the same failure each time.
      const message = (error as Error).message.replace(/^\S+ \S+ \S+: /, '');
      if (warned.has(message)) return;
      warned.add(message);
      options.warn(`events are dropped: ${message}`);
    }
  }

  return {
    async post(object, event) {
      const post = postSafely(object, event);
      posting.add(post);
      await post;
      posting.delete(post);
    },
    async settled() {
      await Promise.all(posting);
    },
  };
}

async function postOrCount(object: ObjectMeta, event: RequestEvent, options: EventPosterOptions): Promise<void> {
  const { events, clock } = options;
  const target = eventName(object, event);
  const now = timestamp(clock.nowMs());
  const latest = { message: truncated(printable(event.message), MAX_MESSAGE_CHARACTERS), lastTimestamp: now };
  try {
    await events.create(
      { ...eventOf(object, event, options), metadata: target, ...latest, firstTimestamp: now, count: 1 },
      { limitMs: LIMIT_MS },
    );
  } catch (error) {
    if (!isApiFailure(error, 'AlreadyExists')) throw error;
    if (event.isOnce) return;
    // The answer contains the count. Reading it by `get` would need another verb in the Role.
    const { count = 1 } = await events.patch(target, { patch: latest, limitMs: LIMIT_MS });
    await events.patch(target, { patch: { count: count + 1 }, limitMs: LIMIT_MS });
  }
}

function eventOf(
  { name, namespace, uid, resourceVersion }: ObjectMeta,
  { type, reason }: RequestEvent,
  { instance, kind = 'DiskExport', role = 'sidecar' }: EventPosterOptions,
): Omit<EventObject, 'metadata'> {
  return {
    type,
    reason,
    involvedObject: { apiVersion: API_VERSION, kind, name, namespace, uid, resourceVersion },
    source: { component: COMPONENT, host: instance },
    reportingComponent: `${COMPONENT}.dev/${role}`,
    reportingInstance: instance,
  };
}

/** The same name for the same object and reason in every process. */
function eventName({ namespace, name, uid }: ObjectMeta, { type, reason }: RequestEvent): ObjectName {
  const suffix = `.${createHash('sha256').update(`${uid} ${type} ${reason}`).digest('hex').slice(0, 16)}`;
  const head = name.slice(0, MAX_NAME_CHARACTERS - suffix.length).replace(/[-.]+$/, '');
  return { namespace, name: `${head}${suffix}` };
}
