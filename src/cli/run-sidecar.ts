/** What `disklift sidecar` does. */

import { createBudget } from '../common/budget.ts';
import { systemClock } from '../common/clock.ts';
import { DiskliftError } from '../common/errors.ts';
import { createLogger } from '../common/logger.ts';
import { loadConfig } from '../config/load-config.ts';
import { proxyEnvironment } from '../config/proxy-environment.ts';
import type { SettingKey } from '../config/settings.ts';
import { destinationKind } from '../engine/export-status.ts';
import { logExport } from '../engine/log-export.ts';
import { serveRequests } from '../engine/serve-requests.ts';
import { createApp } from '../http/create-app.ts';
import { startServer } from '../http/start-server.ts';
import { createExportMetrics } from '../metrics/export-metrics.ts';
import { createDirectoryStore } from '../requests/directory-store.ts';
import { createDestinationPolicy } from '../targets/policy/destination-policy.ts';
import { createNetworkAccess } from '../targets/policy/network-access.ts';
import { BUDGET_BYTES, composePlan, refusalOf } from './compose-export.ts';
import type { CommandContext } from './context.ts';
import { packageVersion } from './package-version.ts';
import { parseVolumes } from './volume-option.ts';

export interface SidecarFlags extends Partial<Record<SettingKey, unknown>> {
  config?: string;
}

/** @throws DiskliftError `InvalidRequest` for settings that make no sense */
export async function runSidecar({ config: file, ...flags }: SidecarFlags, context: CommandContext): Promise<void> {
  const config = loadConfig({ file, flags });
  if (config.requests === '') throw new DiskliftError('InvalidRequest', 'where requests come from is not told; use --requests DIR');
  const volumes = parseVolumes(config.volume);
  const policy = createDestinationPolicy({ allow: config.allowDestination, deny: config.denyDestination });
  const logger = createLogger(config.logLevel);
  const warn = (message: string, key?: string) => logger.warn(key === undefined ? {} : { key }, message);
  const ended = new AbortController();
  const metrics = createExportMetrics({
    version: packageVersion(),
    clock: systemClock,
    retentionMs: config.seriesRetentionSeconds * 1000,
    ofProcess: true,
    signal: ended.signal,
  });
  const store = createDirectoryStore({ directory: config.requests, clock: systemClock, warn, onLook: metrics.watchSucceeded });
  const environment = {
    context: { ...context, warn },
    volumes,
    resolve: store.resolve,
    access: createNetworkAccess(policy),
    allowAmbientCredentials: config.allowAmbientCredentials,
    proxy: proxyEnvironment(),
    budget: createBudget(BUDGET_BYTES),
    clock: systemClock,
    random: Math.random,
  };
  await using server = await startServer(createApp({ metrics, unreadiness: () => undefined }), {
    host: config.listenHost,
    port: config.listenPort,
  });
  logger.info({ host: config.listenHost, port: server.port, volumes: [...volumes.keys()], requests: config.requests }, 'sidecar runs');
  try {
    await serveRequests({
      store,
      signal: context.signal,
      clock: systemClock,
      random: Math.random,
      maxConcurrentExports: config.maxConcurrentExports,
      warn,
      refusal: (request) => refusalOf(request, environment),
      plan: (request) => composePlan(request, environment),
      watch: (request) => [logExport(logger, request), metrics.begin({ ...request.metadata, destination: destinationKind(request) })],
    });
  } finally {
    ended.abort(new DiskliftError('Cancelled', 'the sidecar ends'));
    logger.info('sidecar ends');
  }
}
