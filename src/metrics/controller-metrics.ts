/** Metrics of the process of the controller. The leader counts its objects at a scrape. */

import type { Clock } from '../common/clock.ts';
import type { ScheduleObserver } from '../controller/schedules/observer.ts';
import { API_FAILURES, createControllerRegistry, JOB_STATES } from './controller-catalogue.ts';
import { measureProcess } from './process-metrics.ts';
import { createScheduleSeries } from './schedule-series.ts';
import { type Scrape, type ScrapeFormat, scrapeRegistry } from './scrape.ts';

/** Kinds as Kubernetes names them, by the key under which facts have them. */
const KINDS = {
  jobs: 'Job',
  configMaps: 'ConfigMap',
  persistentVolumeClaims: 'PersistentVolumeClaim',
  volumeSnapshots: 'VolumeSnapshot',
  virtualMachineSnapshots: 'VirtualMachineSnapshot',
} as const;

type KindCounts = Readonly<Record<keyof typeof KINDS, number>>;

/** The leader's view of the fleet. */
export interface FleetFacts {
  waitingCount: number;
  /** Creation of the oldest waiting export, in milliseconds since the epoch. */
  oldestWaitingMs: number | undefined;
  heldCount: number;
  jobs: Readonly<Record<(typeof JOB_STATES)[number], number>>;
  objects: KindCounts;
  /** Objects whose export has ended or does not exist. */
  leftovers: KindCounts;
}

export interface ControllerMetrics {
  scrape(format: ScrapeFormat): Promise<Scrape>;
  leads(isLeading: boolean): void;
  /** Keeps the series of each schedule. */
  readonly schedules: ScheduleObserver;
  /** @param failure code of the error; undefined after a success */
  onReconcile(durationMs: number, failure: string | undefined): void;
  onWarning(reason: string): void;
  onApiFailure(kind: string): void;
}

export interface ControllerMetricsOptions {
  version: string;
  clock: Pick<Clock, 'nowMs'>;
  /** Undefined while this process does not lead. */
  facts(): FleetFacts | undefined;
  /** Milliseconds since the API server last answered; undefined before the first answer. */
  silenceMs(): number | undefined;
}

export function createControllerMetrics({ version, clock, facts, silenceMs }: ControllerMetricsOptions): ControllerMetrics {
  const { registry, metrics } = createControllerRegistry();
  measureProcess(registry);
  metrics.buildInfo.set({ version }, 1);
  const ofSchedules = [metrics.scheduleLastSuccess, metrics.scheduleNext, metrics.scheduleOverdue, metrics.scheduleSuspended];

  /** Series of a process that led before would count the fleet twice. */
  function forgetFleet(): void {
    for (const gauge of [metrics.waiting, metrics.held, metrics.oldestWaiting]) gauge.remove();
    for (const gauge of [metrics.jobs, metrics.objects, metrics.leftovers]) gauge.reset();
  }

  function countFleet(fleet: FleetFacts): void {
    metrics.waiting.set(fleet.waitingCount);
    metrics.held.set(fleet.heldCount);
    if (fleet.oldestWaitingMs !== undefined) metrics.oldestWaiting.set(fleet.oldestWaitingMs / 1000);
    for (const state of JOB_STATES) metrics.jobs.set({ state }, fleet.jobs[state]);
    for (const [key, kind] of Object.entries(KINDS) as [keyof KindCounts, string][]) {
      metrics.objects.set({ kind }, fleet.objects[key]);
      metrics.leftovers.set({ kind }, fleet.leftovers[key]);
    }
  }

  return {
    scrape(format) {
      const fleet = facts();
      forgetFleet();
      if (fleet !== undefined) countFleet(fleet);
      const silentMs = silenceMs();
      metrics.watchLastSuccess.set(silentMs === undefined ? 0 : (clock.nowMs() - silentMs) / 1000);
      return scrapeRegistry(registry, format);
    },
    leads(isLeading) {
      metrics.leader.set(isLeading ? 1 : 0);
      if (isLeading) return;
      for (const gauge of ofSchedules) gauge.reset();
    },
    onReconcile(durationMs, failure) {
      metrics.reconcileDuration.observe(durationMs / 1000);
      if (failure !== undefined) metrics.reconcileFailures.inc({ reason: failure });
    },
    onWarning: (reason) => metrics.warnings.inc({ reason }),
    onApiFailure(kind) {
      const reason = API_FAILURES.find((each) => each === kind);
      if (reason !== undefined) metrics.apiFailures.inc({ reason });
    },
    schedules: createScheduleSeries(metrics),
  };
}
