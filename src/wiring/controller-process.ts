/** Composes the process of the controller: its server, the election of the leader, and the work of the leader. */

import { randomUUID } from 'node:crypto';
import os from 'node:os';
import { abortable } from '../common/abortable.ts';
import { DiskliftError } from '../common/errors.ts';
import type { Logger } from '../common/logger.ts';
import type { ControllerConfig } from '../config/controller-settings.ts';
import { packageVersion } from '../config/environment.ts';
import type { JobTemplateFile } from '../config/job-template.ts';
import type { ControllerFacts } from '../controller/contract.ts';
import type { ScheduleObserver } from '../controller/schedules/observer.ts';
import { type ControllerMetrics, createControllerMetrics } from '../metrics/controller-metrics.ts';
import { createChangeStream } from '../server/change-stream.ts';
import { createHealth, type HealthOptions } from '../server/health.ts';
import { createFleetApi, type FleetApi, guardFleetApi } from '../stores/kubernetes/client/fleet-api.ts';
import { createKubeApi } from '../stores/kubernetes/client/kube-api.ts';
import { createTokenReviewer, listsOf } from '../stores/kubernetes/client/token-reviewer.ts';
import { runAsLeader, type Term } from '../stores/kubernetes/leases/leadership.ts';
import { leaseTimesOf } from '../stores/kubernetes/leases/lease-claim.ts';
import { createLeaseHolder } from '../stores/kubernetes/leases/lease-claims.ts';
import type { CommandContext } from './context.ts';
import { type ComposeControllerOptions, composeController, type LeadingController } from './controller.ts';
import { createFleetPages, type FleetPages } from './fleet-pages.ts';
import { startPages } from './listen.ts';
import { openApiAccess } from './open-api-access.ts';

export interface ControllerProcessOptions {
  config: ControllerConfig;
  template: JobTemplateFile;
  logger: Logger;
  context: Pick<CommandContext, 'clock' | 'signal'>;
}

/** Resources that the pages show. */
const SHOWN = ['diskexports', 'diskexportschedules'];

/** The watches of a leader are answered more often in good health, as those of a sidecar are. */
const SILENCE_MS = 900_000;

/**
 * Leads, or waits to lead, until the context's signal is aborted.
 * @throws DiskliftError `InvalidRequest` for settings that contradict each other or the cluster; why the leader failed
 */
export async function runControllerProcess({ config, template, logger, context }: ControllerProcessOptions): Promise<void> {
  const { clock, signal: stop } = context;
  const version = packageVersion();
  const warn = (message: string, key?: string) => logger.warn(subjectOf(key), message);
  if (config.workerImage === '') throw new DiskliftError('InvalidRequest', 'the image of the workers is unknown; use --worker-image IMAGE');
  const access = await openApiAccess(config.kubeconfig || undefined, context);
  const ended = new AbortController();
  try {
    const namespace = config.leaderElectionNamespace || access.namespace;
    if (namespace === undefined)
      throw new DiskliftError('InvalidRequest', 'the namespace of the Lease is unknown; use --leader-election-namespace NAME');
    const connection = { access, clock, userAgent: `disklift/${version}` };
    const signal = AbortSignal.any([stop, ended.signal]);
    const metrics: ControllerMetrics = createControllerMetrics({
      ...{ version, clock },
      facts: () => election.facts(),
      silenceMs: () => election.health.silenceMs(),
    });
    const api = createFleetApi({ ...connection, onFailure: (_request, kind) => metrics.onApiFailure(kind) });
    const election = composeElection({
      config,
      template,
      namespace,
      api,
      observer: metrics,
      scheduleObserver: metrics.schedules,
      clock,
      signal,
      warn,
    });
    const { reviews } = createKubeApi(connection);
    const pages = {
      config,
      metrics,
      health: createHealth({ ...election.health, signal: ended.signal }),
      exports: {
        ...election.pages,
        changes: createChangeStream({ registry: election.pages.registry, clock, warn, signal: ended.signal }),
        version,
      },
      reviewTokens: createTokenReviewer({ reviews, exports: listsOf(SHOWN, config.namespaces), clock, warn }),
      clock,
      warn,
      signal: ended.signal,
    };
    await using server = await abortable(startPages(pages), stop);
    logger.info({ host: config.listenHost, port: server.port, namespaces: config.namespaces }, 'controller runs');
    await election.run((isLeading) => {
      metrics.leads(isLeading);
      logger.info(isLeading ? 'this process leads' : 'this process does not lead any more');
    });
    logger.info('controller ends');
  } finally {
    ended.abort(new DiskliftError('Cancelled', 'the controller ends'));
    await access.close();
  }
}

interface ElectionOptions extends Pick<ComposeControllerOptions, 'observer'> {
  config: ControllerConfig;
  template: JobTemplateFile;
  /** Namespace of the Lease. */
  namespace: string;
  api: FleetApi;
  clock: CommandContext['clock'];
  signal: AbortSignal;
  warn(message: string, key?: string): void;
  scheduleObserver: ScheduleObserver;
}

interface Election {
  health: Omit<HealthOptions, 'signal' | 'volumeProblem'>;
  /** Undefined while this process does not lead, or has not listed all objects yet. */
  facts(): ControllerFacts | undefined;
  pages: FleetPages;
  run(onChange: (isLeading: boolean) => void): Promise<void>;
}

function composeElection({ config, template, namespace, api, observer, scheduleObserver, clock, signal, warn }: ElectionOptions): Election {
  const instance = config.podName || os.hostname();
  const holder = `${instance}_${randomUUID()}`;
  const times = leaseTimesOf(Math.max(3, config.leaseDurationSeconds));
  const shared = { clock, random: Math.random, warn };
  const target = { namespace, name: config.leaderElectionLease };
  const pages = createFleetPages(() => leading, target);
  let leading: LeadingController | undefined;
  let lookedMs: number | undefined;
  let lookFailure: Error | undefined;

  async function lead(term: Term): Promise<void> {
    const guard = { signal: term.signal, beforeWrite: () => term.assertHeld(), writeLimitMs: times.durationMs - times.deadlineMs };
    leading = composeController({
      config,
      template,
      term,
      instance,
      api: guardFleetApi(api, guard),
      observer,
      scheduleObserver,
      onExport: pages.onExport,
      ...shared,
    });
    try {
      await leading.run(term.signal);
    } finally {
      leading = undefined;
    }
  }

  return {
    pages,
    facts: () => (leading?.hasSynced ? leading.facts() : undefined),
    health: {
      silenceMs: () => (leading === undefined ? lookedMs && clock.monotonicMs() - lookedMs : leading.freshness.silenceMs()),
      readinessProblem() {
        if (leading === undefined) return lookFailure?.message ?? (lookedMs === undefined ? 'the Lease has not been read yet' : undefined);
        return leading.hasSynced ? undefined : (leading.freshness.problem?.message ?? 'the objects have not been listed yet');
      },
      livenessProblem() {
        const isSilent = leading?.freshness.problem === undefined && (leading?.freshness.silenceMs() ?? 0) > SILENCE_MS;
        return isSilent ? 'the API server has not answered for 15 minutes' : undefined;
      },
    },
    run: (onChange) =>
      runAsLeader({
        leases: api.leases,
        times,
        holder,
        self: createLeaseHolder({ holder, instance }),
        target,
        lead,
        onChange,
        onLook(failure) {
          lookFailure = failure;
          if (failure === undefined) lookedMs = clock.monotonicMs();
        },
        signal,
        ...shared,
      }),
  };
}

/** Fields of a log line about an export. @param key `NAMESPACE/NAME` */
function subjectOf(key: string | undefined): object {
  const [namespace, name] = key?.split('/') ?? [];
  return name === undefined ? {} : { namespace, export: name };
}
