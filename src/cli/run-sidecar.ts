/** What `disklift sidecar` does. */

import { throwIfAborted } from '../common/abortable.ts';
import { createBudget } from '../common/budget.ts';
import { systemClock } from '../common/clock.ts';
import { DiskliftError } from '../common/errors.ts';
import { createLogger, type Logger } from '../common/logger.ts';
import { type Config, loadConfig } from '../config/load-config.ts';
import { proxyEnvironment } from '../config/proxy-environment.ts';
import type { SettingKey } from '../config/settings.ts';
import { destinationKind } from '../engine/export-status.ts';
import { logExport } from '../engine/log-export.ts';
import { type ServeOptions, serveRequests } from '../engine/serve-requests.ts';
import { createApp } from '../http/create-app.ts';
import { startServer } from '../http/start-server.ts';
import { createExportMetrics, type ExportMetrics } from '../metrics/export-metrics.ts';
import { createDestinationPolicy } from '../targets/policy/destination-policy.ts';
import { createNetworkAccess } from '../targets/policy/network-access.ts';
import { BUDGET_BYTES, composeLeftovers, composePlan, refusalOf } from './compose-export.ts';
import { composeStore } from './compose-store.ts';
import type { ComposedStore } from './composed-store.ts';
import type { CommandContext } from './context.ts';
import { packageVersion } from './package-version.ts';
import { singleRequest } from './single-request.ts';
import { parseVolumes } from './volume-option.ts';

export interface SidecarFlags extends Partial<Record<SettingKey, unknown>> {
  config?: string;
}

/** @throws DiskliftError `InvalidRequest` for settings that make no sense; with `once`, why the export has not succeeded */
export async function runSidecar({ config: file, ...flags }: SidecarFlags, context: CommandContext): Promise<void> {
  const config = loadConfig({ file, flags });
  const volumes = parseVolumes(config.volume);
  const logger = createLogger(config.logLevel);
  const warn = (message: string, key?: string) => logger.warn(key === undefined ? {} : { key }, message);
  const ended = new AbortController();
  const signal = AbortSignal.any([context.signal, ended.signal]);
  const version = packageVersion();
  const clock = systemClock;
  const metrics = createExportMetrics({ version, clock, retentionMs: config.seriesRetentionSeconds * 1000, ofProcess: true, signal });
  const serving = composeServing({ config, volumes, logger, metrics, context: { ...context, warn, signal } });
  const composed = await composeStore({ config, clock, version, signal, warn });
  await using server = await startServer(createApp({ ...composed, metrics: withLastSuccess(metrics, composed) }), {
    host: config.listenHost,
    port: config.listenPort,
  });
  const { namespace } = composed;
  const source = config.requests === '' ? { namespace } : { requests: config.requests };
  logger.info({ host: config.listenHost, port: server.port, volumes: [...volumes.keys()], ...source }, 'sidecar runs');
  const end = () => ended.abort(new DiskliftError('ExecutorLost', 'the export has ended'));
  const single = config.once === '' ? undefined : singleRequest({ store: composed.store, key: `${namespace}/${config.once}`, onEnd: end });
  try {
    await serveRequests({ ...serving(composed), ...single });
  } finally {
    end();
    await composed.close();
    logger.info('sidecar ends');
  }
  if (single === undefined) return;
  throwIfAborted(context.signal);
  single.requireSuccess();
}

interface ServingOptions {
  config: Config;
  volumes: ReadonlyMap<string, string>;
  logger: Logger;
  metrics: ExportMetrics;
  context: CommandContext;
}

/** @throws DiskliftError `InvalidRequest` for destinations that are not named as they should be */
function composeServing({ config, volumes, logger, metrics, context }: ServingOptions): (composed: ComposedStore) => ServeOptions {
  const { signal, warn } = context;
  const policy = createDestinationPolicy({ allow: config.allowDestination, deny: config.denyDestination });
  const shared = { clock: systemClock, random: Math.random };
  const common = {
    ...shared,
    context,
    volumes,
    access: createNetworkAccess(policy),
    allowAmbientCredentials: config.allowAmbientCredentials,
    proxy: proxyEnvironment(),
    budget: createBudget(BUDGET_BYTES),
  };
  return ({ store, executor, findWriter }) => {
    const environment = { ...common, findWriter, resolve: store.resolve };
    return {
      ...shared,
      store,
      signal,
      warn,
      executor,
      maxConcurrentExports: config.maxConcurrentExports,
      refusal: (request) => refusalOf(request, environment),
      plan: (request) => composePlan(request, environment),
      planLeftovers: (request) => composeLeftovers(request, environment),
      watch: (request) => [logExport(logger, request), metrics.begin({ ...request.metadata, destination: destinationKind(request) })],
    };
  };
}

function withLastSuccess(metrics: ExportMetrics, { lastSuccessMs }: ComposedStore): Pick<ExportMetrics, 'scrape'> {
  return {
    scrape(format) {
      metrics.watchSucceeded(lastSuccessMs() ?? 0);
      return metrics.scrape(format);
    },
  };
}
