/** Composes the sidecar: a store of requests, the engine that serves them, and the observers of the engine. */

import { abortable, throwIfAborted } from '../common/abortable.ts';
import { createBufferPool } from '../common/buffers.ts';
import type { Clock } from '../common/clock.ts';
import { DiskliftError } from '../common/errors.ts';
import type { Logger } from '../common/logger.ts';
import { clusterEnvironment, packageVersion, proxyEnvironment } from '../config/environment.ts';
import type { Config } from '../config/load-config.ts';
import { createExportLog } from '../engine/log-export.ts';
import type { RequestObserver } from '../engine/observer.ts';
import { type ServeOptions, serveRequests } from '../engine/serve-requests.ts';
import { createExportMetrics } from '../metrics/export-metrics.ts';
import type { ClusterPlaces } from '../network/cluster-places.ts';
import { createDestinationPolicy, createNetworkAccess } from '../network/destination-policy.ts';
import { destinationName } from '../resource/destination-kinds.ts';
import type { DiskExport } from '../resource/disk-export.ts';
import { createExportRegistry } from '../server/export-registry.ts';
import { createDirectoryStore } from '../stores/directory/directory-store.ts';
import { cleanUpOnce } from './clean-up-once.ts';
import type { ComposedStore } from './cluster.ts';
import type { CommandContext } from './context.ts';
import { destinationServer } from './destinations.ts';
import { BUFFER_BYTES, composeLeftovers, composePlan } from './export.ts';
import { listen } from './listen.ts';
import { shownPlaceholders } from './shown-placeholders.ts';
import { singleRequest } from './single-request.ts';
import { refusalOf } from './sources.ts';
import { type WorkerRole, workerRole } from './worker.ts';

export interface SidecarOptions {
  config: Config;
  /** Mount point or block device of each claim. */
  volumes: ReadonlyMap<string, string>;
  logger: Logger;
  context: CommandContext;
}

/**
 * Serves requests until the context's signal is aborted, or until the one request of `once` has ended.
 * @throws DiskliftError `InvalidRequest` for settings that contradict each other; with `once`, why the export has not
 * succeeded
 */
export async function runSidecar({ config, volumes, logger, context: { signal: stop, ...context } }: SidecarOptions): Promise<void> {
  const warn = (message: string, key?: string) => logger.warn(subjectOf(key), message);
  const ended = new AbortController();
  const signal = AbortSignal.any([stop, ended.signal]);
  const version = packageVersion();
  const { clock } = context;
  const metrics = createExportMetrics({ version, clock, retentionMs: config.seriesRetentionSeconds * 1000, ofProcess: true, signal });
  const registry = createExportRegistry(clock, shownPlaceholders);
  const metricsObserver: RequestObserver = {
    onBegin: (_key, request) => metrics.begin({ ...request.metadata, destination: destinationName(request) }),
  };
  const observers = [createExportLog(logger), metricsObserver, registry];
  const worker = workerRole(config);
  const serving = composeServing({ config, volumes, worker, observers, warn, context: { ...context, warn, signal } });
  const composed = await composeStore({ config, clock, version, signal, warn });
  const end = () => ended.abort(new DiskliftError('ExecutorLost', 'the export has ended'));
  const giveUp = async (error: unknown): Promise<never> => {
    end();
    await composed.close();
    throw error;
  };
  const listening = { config, volumes, metrics, registry, composed, clock, version, warn, signal: ended.signal };
  const server = await abortable(listen(listening), stop).catch(giveUp);
  const { namespace } = composed;
  // The pod of a worker ends with its export, and the names of its volumes need not be those of claims.
  if (namespace !== undefined && config.worker === '') for (const claim of volumes.keys()) metrics.serves(namespace, claim);
  const source = config.requests === '' ? { namespace } : { requests: config.requests };
  logger.info({ host: config.listenHost, port: server.port, volumes: [...volumes.keys()], ...source }, 'sidecar runs');
  const key = `${namespace}/${config.once}`;
  const onlyCleansUp = config.worker === 'Cleanup';
  const single =
    config.once === '' || onlyCleansUp
      ? undefined
      : singleRequest({
          store: composed.store,
          key,
          refusal: (request) => refusalOf(request, { volumes, worker }),
          clock,
          onEnd: end,
        });
  try {
    const options = serving(composed);
    const hasListed = () => composed.readinessProblem() === undefined;
    if (onlyCleansUp) await cleanUpOnce({ ...options, warn, key, hasListed, stopping: stop });
    else await serveRequests({ ...options, store: single?.store ?? composed.store });
  } finally {
    end();
    await Promise.all([composed.close(), server[Symbol.asyncDispose]()]);
    logger.info('sidecar ends');
  }
  if (single === undefined) return;
  if (!single.hasEnded()) throwIfAborted(stop);
  single.requireSuccess();
}

interface StoreOptions {
  config: Config;
  clock: Clock;
  version: string;
  signal: AbortSignal;
  warn(message: string, key?: string): void;
}

/**
 * The store of the API server or of a directory.
 * @throws DiskliftError `InvalidRequest` for settings that contradict each other
 */
async function composeStore(options: StoreOptions): Promise<ComposedStore> {
  const { config, clock, warn } = options;
  if (config.requests === '') {
    // undici takes 28 MB, and a directory needs none of it.
    const { composeCluster } = await import('./cluster.ts');
    return composeCluster(options);
  }
  if (config.once !== '') throw new DiskliftError('InvalidRequest', '--once is for a cluster; disklift export runs one manifest');
  let last: { ms: number; monotonicMs: number } | undefined;
  const onLook = () => {
    last = { ms: clock.nowMs(), monotonicMs: clock.monotonicMs() };
  };
  const store = createDirectoryStore({ directory: config.requests, clock, warn, onLook });
  return {
    store,
    lastSuccessMs: () => last?.ms,
    silenceMs: () => (last === undefined ? undefined : clock.monotonicMs() - last.monotonicMs),
    readinessProblem: () => (last === undefined ? `${config.requests} cannot be read` : store.problem()),
    livenessProblem: () => undefined,
    close: async () => {},
  };
}

interface ServingOptions {
  config: Config;
  volumes: ReadonlyMap<string, string>;
  worker: WorkerRole | undefined;
  observers: readonly RequestObserver[];
  context: CommandContext;
  /** @param key of the request that the message is about */
  warn(message: string, key?: string): void;
}

/** @throws DiskliftError `InvalidRequest` for invalid destinations in the settings */
function composeServing({ config, volumes, worker, observers, warn, context }: ServingOptions): (composed: ComposedStore) => ServeOptions {
  const { signal } = context;
  const policyOf = (scope: ClusterPlaces['scope']) =>
    createDestinationPolicy({
      allow: config.allowDestination,
      deny: config.denyDestination,
      cluster: { scope, networks: config.clusterNetworks, nodeAddresses: config.nodeAddresses, ...clusterEnvironment() },
    });
  const policy = policyOf(config.destinationScope === 'Cluster' ? 'Cluster' : 'External');
  const clusterPolicy = policyOf('Cluster');
  const shared = { clock: context.clock, random: Math.random };
  const common = {
    ...shared,
    context,
    volumes,
    worker,
    access: createNetworkAccess(policy),
    clusterAccess: createNetworkAccess(clusterPolicy),
    referencesMayCome: true,
    allowAmbientCredentials: config.allowAmbientCredentials,
    minRateBytesPerSecond: config.minRateBytesPerSecond,
    proxy: proxyEnvironment(),
    buffers: createBufferPool(BUFFER_BYTES),
  };
  return ({ store, executor, findWriter, backups, apiServerHosts }) => {
    const environment = { ...common, findWriter, backups, resolve: store.resolve };
    const environmentOf = (request: DiskExport) => {
      const warnOf = (message: string) => warn(message, keyOf(request));
      return { ...environment, logRefusal: warnOf, context: { ...context, warn: warnOf } };
    };
    // No export may begin before the policy denies the API server.
    const policyIsComplete = apiServerHosts?.then((hosts) => {
      for (const each of [policy, clusterPolicy]) each.addApiServers(hosts);
    });
    return {
      ...shared,
      store,
      signal,
      warn,
      executor,
      observers,
      hostOf: destinationServer,
      maxConcurrentExports: config.maxConcurrentExports,
      maxConcurrentExportsPerHost: config.maxConcurrentExportsPerHost || undefined,
      refusal: (request) => refusalOf(request, environment),
      plan: async (request) => {
        await policyIsComplete;
        return composePlan(request, environmentOf(request));
      },
      planLeftovers: async (request) => {
        await policyIsComplete;
        return composeLeftovers(request, environmentOf(request));
      },
    };
  };
}

function keyOf({ metadata: { namespace, name } }: DiskExport): string {
  return `${namespace}/${name}`;
}

/** Fields of a log line about a request. @param key `NAMESPACE/NAME` */
function subjectOf(key: string | undefined): object {
  const [namespace, name] = key?.split('/') ?? [];
  return name === undefined ? {} : { namespace, export: name };
}
