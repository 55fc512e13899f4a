/** The calls to the API server for one decision about a schedule. Each can be repeated after a crash. */

import type { Clock } from '../../common/clock.ts';
import { DiskliftError } from '../../common/errors.ts';
import { withinLimit } from '../../common/time-limit.ts';
import { apiFailureOf, isApiFailure } from '../../stores/kubernetes/client/api-failure.ts';
import type { FleetApi } from '../../stores/kubernetes/client/fleet-api.ts';
import type { ScheduleObject } from '../../stores/kubernetes/client/fleet-objects.ts';
import type { ExportObject } from '../../stores/kubernetes/client/objects.ts';
import type { NamedExport, NewExport, Refusal } from './reconcile-schedule.ts';
import { isOwnedBy, SCHEDULE_LABEL } from './schedule-object.ts';

export interface SchedulesApi {
  schedules: Pick<FleetApi['schedules'], 'description' | 'get' | 'list' | 'watch' | 'patch'>;
  exports: Pick<FleetApi['exports'], 'get' | 'list' | 'create' | 'patch' | 'remove'>;
  events: Pick<FleetApi['events'], 'create' | 'patch'>;
}

export interface PerformerOptions {
  api: SchedulesApi;
  clock: Clock;
  signal: AbortSignal;
}

/** All methods throw DiskliftError as the API client does, and `StoreUnavailable` for a call that hangs. */
export interface SchedulePerformer {
  /** Reads the schedule and its exports from the API server; undefined when the schedule is gone. */
  readLive(schedule: ScheduleObject): Promise<{ schedule: ScheduleObject; exports: ExportObject[] } | undefined>;
  /** Creates the export of a run, unless an earlier call has created it. */
  create(schedule: ScheduleObject, object: NewExport): Promise<CreateOutcome>;
  /** @returns the schedule with the new status; undefined when it was deleted */
  writeStatus(schedule: ScheduleObject, patch: Record<string, unknown>): Promise<ScheduleObject | undefined>;
  cancel(namespace: string, target: NamedExport): Promise<void>;
  remove(namespace: string, target: NamedExport): Promise<void>;
}

/** Taken: an export of this name exists that is not the schedule's. */
type CreateOutcome = { kind: 'created' } | { kind: 'taken' } | { kind: 'refused'; refusal: Refusal; error: DiskliftError };

/** Longer than the time limit of the client, for a call that ignores that. */
const CALL_LIMIT_MS = 30_000;

export function createSchedulePerformer({ api, clock, signal }: PerformerOptions): SchedulePerformer {
  function limited<T>(what: string, call: Promise<T>): Promise<T> {
    const late = () => new DiskliftError('StoreUnavailable', `${what}: the API server does not answer within ${CALL_LIMIT_MS / 1000} s`);
    return withinLimit(call, { limitMs: CALL_LIMIT_MS, clock, signal, late });
  }

  /** @returns undefined when the object is gone, or another object has its name */
  async function unlessGone<T>(call: Promise<T>): Promise<T | undefined> {
    try {
      return await call;
    } catch (error) {
      if (isApiFailure(error, 'NotFound') || isApiFailure(error, 'Conflict')) return undefined;
      throw error;
    }
  }

  return {
    async readLive({ metadata: { namespace, name, uid } }) {
      const schedule = await limited(`get ${namespace}/${name}`, api.schedules.get({ namespace, name }, { signal }));
      if (schedule?.metadata.uid !== uid) return undefined;
      const labelSelector = `${SCHEDULE_LABEL}=${name}`;
      const { items } = await limited(`list the exports of ${namespace}/${name}`, api.exports.list(namespace, { labelSelector, signal }));
      return { schedule, exports: items };
    },

    async create(schedule, object) {
      const { namespace, name } = object.metadata;
      const what = `create ${namespace}/${name}`;
      try {
        await limited(what, api.exports.create(object, { signal }));
        return { kind: 'created' };
      } catch (error) {
        if (isApiFailure(error, 'AlreadyExists')) {
          const there = await limited(`get ${namespace}/${name}`, api.exports.get({ namespace, name }, { signal }));
          return { kind: there !== undefined && !isOwnedBy(there, schedule.metadata.uid) ? 'taken' : 'created' };
        }
        const failure = apiFailureOf(error);
        if (!(error instanceof DiskliftError) || error.code !== 'StoreRefused' || failure === undefined) throw error;
        return { kind: 'refused', refusal: { reason: 'ExportRefused', message: error.message }, error };
      }
    },

    writeStatus({ metadata: { namespace, name, uid } }, status) {
      const patch = { metadata: { uid }, status };
      const call = api.schedules.patch({ namespace, name }, { patch, subresource: 'status', signal });
      return unlessGone(limited(`patch the status of ${namespace}/${name}`, call));
    },

    async cancel(namespace, { name, uid }) {
      const patch = { metadata: { uid }, spec: { cancel: true } };
      await unlessGone(limited(`cancel ${namespace}/${name}`, api.exports.patch({ namespace, name }, { patch, signal })));
    },

    async remove(namespace, { name, uid }) {
      await unlessGone(limited(`delete ${namespace}/${name}`, api.exports.remove({ namespace, name }, { uid, signal })));
    },
  };
}
