/** Composes the work of the controller that leads. */

import type { Clock } from '../common/clock.ts';
import type { ControllerConfig } from '../config/controller-settings.ts';
import type { JobTemplateFile } from '../config/job-template.ts';
import { type Controller, type ControllerObserver, createController } from '../controller/run-controller.ts';
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
}

/** One controller for each term: its copies and queues begin anew. */
export function composeController({ config, template, term, instance, ...shared }: ComposeControllerOptions): Controller {
  const { securityContext, ...parts } = template;
  return createController({
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
    },
    podStartTimeoutMs: config.podStartTimeoutSeconds * 1000,
    workerClusterRole: config.workerClusterRole,
    hostOf: destinationServer,
    events: createEventPoster({ events: shared.api.events, instance, ...shared }),
    assertLeading: () => term.assertHeld(),
  });
}
