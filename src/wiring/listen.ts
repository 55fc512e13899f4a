/** Composes the HTTP servers of a sidecar and of a controller: pages, metrics and probes. */

import type { Clock } from '../common/clock.ts';
import { DiskliftError } from '../common/errors.ts';
import type { Config } from '../config/load-config.ts';
import type { ExportMetrics } from '../metrics/export-metrics.ts';
import { createChangeStream } from '../server/change-stream.ts';
import { type AppOptions, createApp } from '../server/create-app.ts';
import type { ExportRegistry } from '../server/export-registry.ts';
import type { ExportView } from '../server/export-view.ts';
import { createHealth } from '../server/health.ts';
import { censusOf } from '../server/query-exports.ts';
import { type Authorize, authorizeByFile } from '../server/require-token.ts';
import { type RunningServer, startServer, type TlsFiles } from '../server/start-server.ts';
import { createVolumeProbe } from '../sources/probe-volumes.ts';
import type { ComposedStore } from './cluster.ts';

export interface ListenOptions {
  config: Config;
  volumes: ReadonlyMap<string, string>;
  metrics: ExportMetrics;
  registry: ExportRegistry;
  composed: Pick<ComposedStore, 'lastSuccessMs' | 'silenceMs' | 'readinessProblem' | 'livenessProblem' | 'authorize'>;
  clock: Clock;
  version: string;
  warn(message: string): void;
  /** Aborted when the sidecar ends. */
  signal: AbortSignal;
}

/** @throws DiskliftError `InvalidRequest` for settings that contradict each other */
export function listen(options: ListenOptions): Promise<RunningServer> {
  const { config, volumes, metrics, registry, composed, clock, version, warn, signal } = options;
  return startPages({
    config,
    metrics: {
      scrape(format) {
        metrics.watchSucceeded(composed.lastSuccessMs() ?? 0);
        metrics.count(censusOf(viewsOf(registry), volumes));
        return metrics.scrape(format);
      },
    },
    health: createHealth({ ...composed, volumeProblem: createVolumeProbe(volumes, { clock, signal }), signal }),
    exports: { registry, changes: createChangeStream({ registry, clock, warn, signal }), version },
    reviewTokens: composed.authorize,
    clock,
    warn,
    signal,
  });
}

type PagesConfig = Pick<
  Config,
  'listenHost' | 'listenPort' | 'listenCertificateFile' | 'listenKeyFile' | 'listenTokenFile' | 'listenTokenReview'
>;

export interface PagesOptions extends Pick<AppOptions, 'metrics' | 'health' | 'exports'> {
  config: PagesConfig;
  /** Asks the API server whether a token permits access; undefined without an API server. */
  reviewTokens: Authorize | undefined;
  clock: Clock;
  warn(message: string): void;
  /** Aborted when the server ends. */
  signal: AbortSignal;
}

/** @throws DiskliftError `InvalidRequest` for settings that contradict each other */
export async function startPages(options: PagesOptions): Promise<RunningServer> {
  const { config, metrics, health, exports, clock, warn } = options;
  const tls = tlsFilesOf(config);
  const authorize = await authorizeOf(options);
  const app = createApp({ metrics, health, exports, authorize, warn });
  return startServer(app, { host: config.listenHost, port: config.listenPort, tls, clock, warn });
}

function* viewsOf(registry: ExportRegistry): Generator<ExportView> {
  for (const key of registry.keys()) {
    const view = registry.get(key);
    if (view !== undefined) yield view;
  }
}

async function authorizeOf({ config, reviewTokens, clock, signal }: PagesOptions): Promise<Authorize | undefined> {
  const { listenTokenFile: file, listenTokenReview: isReviewed } = config;
  if (!isReviewed) return file === '' ? undefined : authorizeByFile(file, { clock, signal });
  if (file !== '') throw new DiskliftError('InvalidRequest', 'use either --listen-token-file or --listen-token-review');
  if (reviewTokens === undefined)
    throw new DiskliftError('InvalidRequest', '--listen-token-review asks the API server, and with --requests there is none');
  return reviewTokens;
}

function tlsFilesOf({ listenCertificateFile: certificateFile, listenKeyFile: keyFile }: PagesConfig): TlsFiles | undefined {
  if (certificateFile === '' && keyFile === '') return undefined;
  if (certificateFile === '' || keyFile === '')
    throw new DiskliftError('InvalidRequest', 'for HTTPS both --listen-certificate-file and --listen-key-file are needed');
  return { certificateFile, keyFile };
}
