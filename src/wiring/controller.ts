/** Composes the work of the controller that leads. */

import type { Clock } from '../common/clock.ts';
import type { ControllerConfig } from '../config/controller-settings.ts';
import type { JobTemplateFile } from '../config/job-template.ts';
import type { Controller, ControllerObserver, ControllerOptions } from '../controller/contract.ts';
import { createController } from '../controller/run-controller.ts';
import { createExportsOfSchedules } from '../controller/schedules/exports-of-schedules.ts';
import type { ScheduleObserver } from '../controller/schedules/observer.ts';
import { runSchedules, type Schedules } from '../controller/schedules/run-schedules.ts';
import type { ReadSchedule } from '../controller/schedules/schedule-object.ts';
import type { FleetApi } from '../stores/kubernetes/client/fleet-api.ts';
import type { Term } from '../stores/kubernetes/leases/leadership.ts';
import { createEventPoster } from '../stores/kubernetes/store/kubernetes-events.ts';
import { destinationServer } from './destinations.ts';

export interface ComposeControllerOptions {
  config: ControllerConfig;
  template: JobTemplateFile;
  /** Writes only while the term lasts. */
  api: FleetApi;
  term: Term;
  /** Name of the pod. */
  instance: string;
  observer?: ControllerObserver | undefined;
  clock: Clock;
  random(): number;
  /** @param key of the export that the message is about */
  warn(message: string, key?: string): void;
  scheduleObserver?: ScheduleObserver | undefined;
  /** Called when an export was added, changed or removed. Must not throw. */
  onExport?: ((key: string) => void) | undefined;
}

/** A controller with its schedules. */
export interface LeadingController extends Controller {
  schedules(): Iterable<ReadSchedule>;
}

/** One controller for each term: its copies and queues begin anew. Its schedules make exports, which it runs. */
export function composeController(options: ComposeControllerOptions): LeadingController {
  const { config, term, instance, api, clock, random, warn, scheduleObserver, onExport } = options;
  let schedules: Schedules | undefined;
  const controller = createController({
    ...controllerOptionsOf(options),
    onExport: (key) => {
      for (const schedule of index.update(key)) schedules?.enqueue(schedule);
      onExport?.(key);
    },
  });
  const index = createExportsOfSchedules((key) => controller.exportOf(key));

  async function run(signal: AbortSignal): Promise<void> {
    const exports = {
      get hasSynced() {
        return controller.hasSynced;
      },
      ofSchedule: index.ofSchedule,
    };
    const { namespaces } = config;
    const assertLeading = () => term.assertHeld();
    schedules = runSchedules({
      api,
      exports,
      namespaces,
      instance,
      assertLeading,
      clock,
      random,
      warn,
      signal,
      observer: scheduleObserver,
    });
    await Promise.all([controller.run(signal), schedules.ended]);
  }

  return {
    run,
    facts: () => controller.facts(),
    schedules: () => schedules?.all() ?? [],
    exportKeys: () => controller.exportKeys(),
    exportOf: (key) => controller.exportOf(key),
    get hasSynced() {
      return controller.hasSynced && (schedules?.hasSynced ?? false);
    },
    get freshness() {
      return controller.freshness;
    },
  };
}

function controllerOptionsOf({ config, template, term, instance, ...shared }: ComposeControllerOptions): ControllerOptions {
  const { securityContext, ...parts } = template;
  return {
    ...shared,
    namespaces: config.namespaces,
    limits: {
      total: config.maxConcurrentJobs,
      perNamespace: config.maxConcurrentJobsPerNamespace,
      perNode: config.maxConcurrentJobsPerNode,
      perHost: config.maxConcurrentJobsPerHost || undefined,
    },
    template: {
      ...parts,
      image: config.workerImage,
      imagePullPolicy: config.workerImagePullPolicy,
      serviceAccountName: config.workerServiceAccount,
      securityContextMode: securityContext.mode,
      seLinuxLevel: securityContext.seLinuxLevel,
      seLinuxChangePolicy: securityContext.seLinuxChangePolicy,
    },
    podStartTimeoutMs: config.podStartTimeoutSeconds * 1000,
    workerClusterRole: config.workerClusterRole,
    hostOf: destinationServer,
    events: createEventPoster({ events: shared.api.events, instance, ...shared }),
    assertLeading: () => term.assertHeld(),
  };
}
