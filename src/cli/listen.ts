/** The HTTP side of the sidecar, wired: metrics, probes, exports and their page. */

import type { Clock } from '../common/clock.ts';
import { DiskliftError } from '../common/errors.ts';
import type { Config } from '../config/load-config.ts';
import { createChangeStream } from '../http/change-stream.ts';
import { createApp } from '../http/create-app.ts';
import type { ExportBoard } from '../http/export-board.ts';
import { createHealth } from '../http/health.ts';
import type { Authorize } from '../http/require-token.ts';
import { type RunningServer, startServer } from '../http/start-server.ts';
import type { TlsFiles } from '../http/tls-files.ts';
import { authorizeByFile } from '../http/token-file.ts';
import type { ExportMetrics } from '../metrics/export-metrics.ts';
import { createVolumeProbe } from '../sources/probe-volumes.ts';
import type { ComposedStore } from './composed-store.ts';

export interface ListenOptions {
  config: Config;
  volumes: ReadonlyMap<string, string>;
  metrics: ExportMetrics;
  board: ExportBoard;
  composed: Pick<ComposedStore, 'lastSuccessMs' | 'unreadiness' | 'illness'>;
  clock: Clock;
  version: string;
  /** Who may ask, where no token file says so; everybody when left out. */
  authorize?: Authorize | undefined;
  warn(message: string): void;
  /** Aborted when the sidecar ends. */
  signal: AbortSignal;
}

/** @throws DiskliftError `InvalidRequest` for settings that make no sense */
export async function listen(options: ListenOptions): Promise<RunningServer> {
  const { config, volumes, metrics, board, composed, clock, version, warn, signal } = options;
  const tls = tlsFilesOf(config);
  const authorize = config.listenTokenFile === '' ? options.authorize : await authorizeByFile(config.listenTokenFile);
  const app = createApp({
    metrics: {
      scrape(format) {
        metrics.watchSucceeded(composed.lastSuccessMs() ?? 0);
        return metrics.scrape(format);
      },
    },
    health: createHealth({ ...composed, clock, volumeProblem: createVolumeProbe(volumes, { clock, signal }), signal }),
    board,
    changes: createChangeStream({ board, clock, warn, signal }),
    version,
    authorize,
    warn,
  });
  return startServer(app, { host: config.listenHost, port: config.listenPort, tls, clock, warn });
}

function tlsFilesOf({ listenCertificateFile: certificateFile, listenKeyFile: keyFile }: Config): TlsFiles | undefined {
  if (certificateFile === '' && keyFile === '') return undefined;
  if (certificateFile === '' || keyFile === '')
    throw new DiskliftError('InvalidRequest', 'for HTTPS both --listen-certificate-file and --listen-key-file are needed');
  return { certificateFile, keyFile };
}
