/**
 * The loop of the schedules: each schedule is decided about and worked on when it changes, when one of its exports
 * changes, and when its next time has come. A failure is retried with growing pauses.
 *
 * The steps are in this order, so that the process may end between any two: create the export, write the status,
 * cancel, delete. An export is deleted only after the status has its success.
 */

import { type Clock, timestamp } from '../../common/clock.ts';
import { DiskliftError } from '../../common/errors.ts';
import type { Backoff } from '../../common/retry.ts';
import { FailureDelays } from '../../stores/kubernetes/cache/failure-delays.ts';
import { createWorkQueue, type WorkQueue } from '../../stores/kubernetes/cache/work-queue.ts';
import type { ScheduleObject } from '../../stores/kubernetes/client/fleet-objects.ts';
import type { ExportObject } from '../../stores/kubernetes/client/objects.ts';
import { createKnownExports, type KnownExports } from '../../stores/kubernetes/store/export-object.ts';
import { createEventPoster, type EventPoster } from '../../stores/kubernetes/store/kubernetes-events.ts';
import { CachedKind } from '../cached-kind.ts';
import type { ScheduleObserver } from './observer.ts';
import { createSchedulePerformer, type SchedulePerformer, type SchedulesApi } from './perform-schedule.ts';
import { type Refusal, reconcileSchedule, type ScheduleEvent, type SchedulePlan } from './reconcile-schedule.ts';
import { type ReadSchedule, readScheduleObject, SCHEDULE_RESOURCE, statusPatch } from './schedule-object.ts';

/** The exports of schedules, as a copy that the caller keeps up to date. */
interface ExportLister {
  readonly hasSynced: boolean;
  /** Exports with the label of the schedule, in its namespace. @param key of the schedule: NAMESPACE/NAME */
  ofSchedule(key: string): Iterable<ExportObject>;
}

export interface SchedulesOptions {
  api: SchedulesApi;
  exports: ExportLister;
  /** Empty: all namespaces. */
  namespaces: readonly string[];
  /** Name of the pod, for events. */
  instance: string;
  /** @throws DiskliftError `ExecutorLost` when another controller may lead */
  assertLeading(): Promise<void>;
  clock: Clock;
  /** Returns a number in [0, 1). */
  random(): number;
  /** @param key of the schedule that the message is about */
  warn(message: string, key?: string): void;
  /** Ends the loop. */
  signal: AbortSignal;
  observer?: ScheduleObserver | undefined;
}

export interface Schedules {
  /** To be called when an export of the schedule has changed. @param key of the schedule: NAMESPACE/NAME */
  enqueue(key: string): void;
  /** All schedules, for pages. */
  all(): Iterable<ReadSchedule>;
  readonly hasSynced: boolean;
  /** The longest silence of a watch, in milliseconds; undefined before the first answers. */
  silenceMs(): number | undefined;
  /** Resolves when `signal` was aborted and the loop has ended. Never rejects. */
  readonly ended: Promise<void>;
}

/** Schedules that are worked on at a time. */
const WORKERS = 4;

const BACKOFF: Backoff = { baseMs: 1000, capMs: 300_000 };

/** Every schedule is looked at this often, whatever the timers do: the wall clock may have been set forward. */
const RESYNC_MS = 600_000;

/** Pause before the next look at the initial lists. */
const SYNC_POLL_MS = 500;

export function runSchedules(options: SchedulesOptions): Schedules {
  return new ScheduleLoop(options);
}

class ScheduleLoop implements Schedules {
  readonly ended: Promise<void>;
  private readonly options: SchedulesOptions;
  private readonly schedules: CachedKind<ScheduleObject>;
  private readonly known: KnownExports;
  private readonly queue: WorkQueue;
  private readonly performer: SchedulePerformer;
  private readonly events: EventPoster;
  private readonly delays: FailureDelays;
  /** Scheduled time of the last run that was started, by the UID of the schedule. */
  private readonly startedMs = new Map<string, number>();
  /** Time of the last event of each reason, by the UID of the schedule. */
  private readonly reported = new Map<string, Map<string, number>>();
  /** UID of each schedule that was worked on, by its key. */
  private readonly uids = new Map<string, string>();

  constructor(options: SchedulesOptions) {
    const { api, namespaces, clock, random, warn, instance, signal } = options;
    this.options = options;
    this.queue = createWorkQueue(clock, signal);
    this.delays = new FailureDelays(BACKOFF, random);
    this.performer = createSchedulePerformer({ api, clock, signal });
    this.events = createEventPoster({ events: api.events, clock, instance, warn, kind: SCHEDULE_RESOURCE.kind, role: 'controller' });
    const onKey = (key: string) => this.queue.add(key);
    this.schedules = new CachedKind({ resource: api.schedules, namespaces, isOptional: true, onKey, clock, random, warn });
    this.known = createKnownExports(this.schedules);
    this.ended = this.run();
  }

  enqueue(key: string): void {
    this.queue.add(key);
  }

  *all(): Iterable<ReadSchedule> {
    for (const key of this.schedules.keys()) {
      const schedule = this.known.get(key);
      if (schedule !== undefined) yield readScheduleObject(schedule);
    }
  }

  get hasSynced(): boolean {
    return this.schedules.all().every((reflector) => reflector.hasSynced);
  }

  silenceMs(): number | undefined {
    const silences = this.schedules.all().map((reflector) => reflector.silenceMs());
    return silences.reduce((a, b) => (a === undefined || b === undefined ? undefined : Math.max(a, b)), 0);
  }

  private async run(): Promise<void> {
    const reflectors = this.schedules.all().map((reflector) => reflector.run(this.options.signal));
    await Promise.all([...reflectors, ...Array.from({ length: WORKERS }, () => this.work())]);
    await this.events.settled();
    // Another process may lead now, and has the series of these schedules.
    for (const key of [...this.uids.keys()]) this.forget(key);
  }

  private async work(): Promise<void> {
    for await (const key of this.queue.take(this.options.signal)) {
      try {
        const waitMs = await this.workOn(key);
        this.delays.forget(key);
        if (waitMs !== undefined) this.queue.addAfter(key, Math.min(RESYNC_MS, waitMs));
      } catch (error) {
        this.retryLater(key, error);
      }
    }
  }

  private retryLater(key: string, error: unknown): void {
    const { warn, signal } = this.options;
    if (signal.aborted) return;
    const known = error instanceof DiskliftError ? error : new DiskliftError('StoreUnavailable', `internal error: ${error}`, error);
    warn(known.message, key);
    this.queue.addAfter(key, this.delays.next(key, known.retryAfterMs));
  }

  /** @returns the time until the next look; undefined after the end of the schedule */
  private async workOn(key: string): Promise<number | undefined> {
    const { exports } = this.options;
    if (this.schedules.reflectorOf(key)?.hasSynced !== true || !exports.hasSynced) return SYNC_POLL_MS;
    const known = this.known.get(key);
    if (!isPresent(known)) return this.forget(key);
    this.remember(key, known);
    const plan = this.plan(known, exports.ofSchedule(key));
    if (plan.create === undefined) return this.carryOut(known, plan);
    // The copies may be old. A run is started only after a look at the API server: it may be suspended by now, or an
    // earlier export may still run.
    const live = await this.performer.readLive(known);
    if (!isPresent(live?.schedule)) return this.forget(key);
    return this.carryOut(live.schedule, await this.start(live.schedule, live.exports));
  }

  /** Creates the export of the run that is due. @returns what is left to do */
  private async start(schedule: ScheduleObject, exports: readonly ExportObject[]): Promise<SchedulePlan> {
    const plan = this.plan(schedule, exports);
    const { create, createMs } = plan;
    if (create === undefined || createMs === undefined) return plan;
    await this.options.assertLeading();
    const outcome = await this.performer.create(schedule, create);
    const run = `${create.metadata.name}, the run of ${timestamp(createMs)}`;
    if (outcome.kind === 'refused') {
      this.report(schedule, { type: 'Warning', reason: outcome.refusal.reason, message: outcome.refusal.message, ofMs: createMs });
      await this.writeStatus(schedule, this.plan(schedule, exports, outcome.refusal));
      throw outcome.error;
    }
    this.startedMs.set(schedule.metadata.uid, createMs);
    if (outcome.kind === 'created')
      this.report(schedule, { type: 'Normal', reason: 'ExportCreated', message: `Created ${run}.`, ofMs: createMs });
    else
      this.report(schedule, {
        type: 'Warning',
        reason: 'NameTaken',
        message: `${run}, is left out: the name belongs to an export of another owner.`,
        ofMs: createMs,
      });
    return plan;
  }

  private plan(schedule: ScheduleObject, exports: Iterable<ExportObject>, refusal?: Refusal): SchedulePlan {
    const startedMs = this.startedMs.get(schedule.metadata.uid);
    return reconcileSchedule({ schedule, exports, nowMs: this.options.clock.nowMs(), startedMs, refusal });
  }

  private async carryOut(schedule: ScheduleObject, plan: SchedulePlan): Promise<number> {
    const { namespace, name } = schedule.metadata;
    for (const event of plan.events) this.report(schedule, event);
    this.options.observer?.onSchedule(namespace, name, plan.state);
    if (plan.cancel.length + plan.remove.length > 0) await this.options.assertLeading();
    await this.writeStatus(schedule, plan);
    for (const target of plan.cancel) await this.performer.cancel(namespace, target);
    for (const target of plan.remove) await this.performer.remove(namespace, target);
    return plan.requeueAfterMs ?? RESYNC_MS;
  }

  private async writeStatus(schedule: ScheduleObject, { status }: SchedulePlan): Promise<void> {
    const patch = statusPatch(schedule, status);
    if (patch === undefined) return;
    const written = await this.performer.writeStatus(schedule, patch);
    if (written !== undefined) this.known.learn(written);
  }

  /** An event is recorded once for each time that it is about. */
  private report(schedule: ScheduleObject, { ofMs, ...event }: ScheduleEvent): void {
    const { uid } = schedule.metadata;
    const times = this.reported.get(uid) ?? new Map<string, number>();
    this.reported.set(uid, times);
    if ((times.get(event.reason) ?? Number.NEGATIVE_INFINITY) >= ofMs) return;
    times.set(event.reason, ofMs);
    void this.events.post(schedule, event);
  }

  /** A schedule with the name of a deleted one has another UID. */
  private remember(key: string, { metadata: { uid } }: ScheduleObject): void {
    if (this.uids.get(key) !== uid) this.forget(key);
    this.uids.set(key, uid);
  }

  private forget(key: string): undefined {
    const uid = this.uids.get(key);
    if (uid === undefined) return;
    this.uids.delete(key);
    this.startedMs.delete(uid);
    this.reported.delete(uid);
    const [namespace = '', name = ''] = key.split('/');
    this.options.observer?.onScheduleGone(namespace, name);
  }
}

function isPresent(schedule: ScheduleObject | undefined): schedule is ScheduleObject {
  return schedule !== undefined && schedule.metadata.deletionTimestamp === undefined;
}
