/** What `disklift sidecar` does. */

import { abortable, throwIfAborted } from '../../common/abortable.ts';
import { readAhead } from '../../common/await-storage.ts';
import { createBufferPool } from '../../common/buffers.ts';
import { DiskliftError } from '../../common/errors.ts';
import { createLogger, type Logger } from '../../common/logger.ts';
import { clusterEnvironment, proxyEnvironment } from '../../config/environment.ts';
import { type Config, loadConfig } from '../../config/load-config.ts';
import { packageVersion } from '../../config/package-version.ts';
import type { SettingKey } from '../../config/settings.ts';
import { logExport } from '../../engine/log-export.ts';
import { type ServeOptions, serveRequests } from '../../engine/serve-requests.ts';
import { createExportMetrics, type ExportMetrics } from '../../metrics/export-metrics.ts';
import { createDestinationPolicy, createNetworkAccess } from '../../network/destination-policy.ts';
import { destinationName } from '../../resource/destination-kinds.ts';
import type { DiskExport } from '../../resource/disk-export.ts';
import { placeholderValues } from '../../resource/placeholders.ts';
import { createBoardStore } from '../../server/board-store.ts';
import { createExportBoard, type ExportBoard } from '../../server/export-board.ts';
import type { ComposedStore } from '../../wiring/composed-store.ts';
import type { CommandContext } from '../../wiring/context.ts';
import { destinationServer } from '../../wiring/destinations.ts';
import { BUFFER_BYTES, composeLeftovers, composePlan, refusalOf } from '../../wiring/export.ts';
import { listen } from '../../wiring/listen.ts';
import { singleRequest } from '../../wiring/single-request.ts';
import { composeStore } from '../../wiring/store.ts';
import { parseVolumes } from '../volume-option.ts';

export interface SidecarFlags extends Partial<Record<SettingKey, unknown>> {
  config?: string;
}

/** @throws DiskliftError `InvalidRequest` for settings that make no sense; with `once`, why the export has not succeeded */
export async function runSidecar({ config: file, ...flags }: SidecarFlags, context: CommandContext): Promise<void> {
  const settings = await readAhead(file === undefined ? [] : [file], context);
  const config = loadConfig({ file, flags, readText: settings.text });
  const volumes = parseVolumes(config.volume);
  const logger = createLogger({ level: config.logLevel, format: logFormatOf(config) });
  const warn = (message: string, key?: string) => logger.warn(subjectOf(key), message);
  const ended = new AbortController();
  const signal = AbortSignal.any([context.signal, ended.signal]);
  const version = packageVersion();
  const { clock } = context;
  const metrics = createExportMetrics({ version, clock, retentionMs: config.seriesRetentionSeconds * 1000, ofProcess: true, signal });
  const board = createExportBoard(clock, placeholdersOf);
  const serving = composeServing({ config, volumes, logger, metrics, board, warn, context: { ...context, signal } });
  const composed = await composeStore({ config, clock, version, signal, warn });
  const end = () => ended.abort(new DiskliftError('ExecutorLost', 'the export has ended'));
  const giveUp = async (error: unknown): Promise<never> => {
    end();
    await composed.close();
    throw error;
  };
  const listening = { config, volumes, metrics, board, composed, clock, version, warn, signal: ended.signal };
  const server = await abortable(listen(listening), context.signal).catch(giveUp);
  const { namespace } = composed;
  if (namespace !== undefined) for (const claim of volumes.keys()) metrics.serves(namespace, claim);
  const source = config.requests === '' ? { namespace } : { requests: config.requests };
  logger.info({ host: config.listenHost, port: server.port, volumes: [...volumes.keys()], ...source }, 'sidecar runs');
  const refusal = (request: DiskExport) => refusalOf(request, { volumes });
  const single =
    config.once === ''
      ? undefined
      : singleRequest({ store: composed.store, key: `${namespace}/${config.once}`, refusal, clock, onEnd: end });
  try {
    const store = createBoardStore(single?.store ?? composed.store, board);
    await serveRequests({ ...serving(composed), store });
  } finally {
    end();
    await Promise.all([composed.close(), server[Symbol.asyncDispose]()]);
    logger.info('sidecar ends');
  }
  if (single === undefined) return;
  if (!single.hasEnded()) throwIfAborted(context.signal);
  single.requireSuccess();
}

interface ServingOptions {
  config: Config;
  volumes: ReadonlyMap<string, string>;
  logger: Logger;
  metrics: ExportMetrics;
  board: ExportBoard;
  context: Omit<CommandContext, 'warn'>;
  /** @param key of the request that the message is about */
  warn(message: string, key?: string): void;
}

/** @throws DiskliftError `InvalidRequest` for destinations that are not named as they should be */
function composeServing({
  config,
  volumes,
  logger,
  metrics,
  board,
  warn,
  context,
}: ServingOptions): (composed: ComposedStore) => ServeOptions {
  const { signal } = context;
  const policy = createDestinationPolicy({
    allow: config.allowDestination,
    deny: config.denyDestination,
    cluster: {
      scope: config.destinationScope === 'Cluster' ? 'Cluster' : 'External',
      networks: config.clusterNetworks,
      nodeAddresses: config.nodeAddresses,
      ...clusterEnvironment(),
    },
  });
  const shared = { clock: context.clock, random: Math.random };
  const common = {
    ...shared,
    context: { ...context, warn },
    volumes,
    access: createNetworkAccess(policy),
    referencesMayCome: true,
    allowAmbientCredentials: config.allowAmbientCredentials,
    minRateBytesPerSecond: config.minRateBytesPerSecond,
    proxy: proxyEnvironment(),
    buffers: createBufferPool(BUFFER_BYTES),
  };
  return ({ store, executor, findWriter, apiServerHosts }) => {
    const environment = { ...common, findWriter, resolve: store.resolve };
    const environmentOf = (request: DiskExport) => {
      const warnOf = (message: string) => warn(message, keyOf(request));
      return { ...environment, logRefusal: warnOf, context: { ...context, warn: warnOf } };
    };
    // No export may begin before its policy is complete.
    const policyIsComplete = apiServerHosts?.then((hosts) => policy.addApiServers(hosts));
    return {
      ...shared,
      store,
      signal,
      warn,
      executor,
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
      watch: (request) => [
        logExport(logger, request),
        metrics.begin({ ...request.metadata, destination: destinationName(request) }),
        board.begin(keyOf(request)),
      ],
    };
  };
}

/** Without a path, the disk stays a placeholder. */
function placeholdersOf(request: DiskExport, diskPath?: string): Readonly<Record<string, string | undefined>> {
  const { disk, ...values } = placeholderValues(request, diskPath ?? '');
  return diskPath === undefined ? values : { ...values, disk };
}

function logFormatOf({ logFormat }: Config): 'json' | 'text' {
  if (logFormat === 'auto') return process.stderr.isTTY ? 'text' : 'json';
  return logFormat === 'text' ? 'text' : 'json';
}

function keyOf({ metadata: { namespace, name } }: DiskExport): string {
  return `${namespace}/${name}`;
}

/** What a line of the log is about. @param key `NAMESPACE/NAME` */
function subjectOf(key: string | undefined): object {
  const [namespace, name] = key?.split('/') ?? [];
  return name === undefined ? {} : { namespace, export: name };
}
