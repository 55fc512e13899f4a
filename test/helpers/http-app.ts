/** The app of the sidecar in this process, behind a real socket, with a registry that the test fills. */

import { systemClock } from '../../src/common/clock.ts';
import { DiskliftError } from '../../src/common/errors.ts';
import type { ExportMetrics } from '../../src/metrics/export-metrics.ts';
import type { DiskExportStatus } from '../../src/resource/disk-export.ts';
import { validateDiskExport } from '../../src/resource/validate.ts';
import { createChangeStream } from '../../src/server/change-stream.ts';
import { type ApiOptions, createApp } from '../../src/server/create-app.ts';
import { createExportRegistry, type ExportRegistry } from '../../src/server/export-registry.ts';
import type { PlaceholderSource } from '../../src/server/export-view.ts';
import type { Authorize } from '../../src/server/require-token.ts';
import { type Listening, startServer } from '../../src/server/start-server.ts';
import type { StoredRequest } from '../../src/stores/contract.ts';
import { diskExport } from './manifest.ts';

export interface HttpApp extends AsyncDisposable {
  registry: ExportRegistry;
  port: number;
  url: string;
  warnings: string[];
  get(place: string, init?: RequestInit): Promise<Response>;
}

export interface HttpAppOptions {
  authorize?: Authorize;
  tls?: Listening['tls'];
  clock?: Listening['clock'];
  /** Clock of the change stream. */
  changesClock?: Listening['clock'];
  metrics?: Pick<ExportMetrics, 'scrape'>;
  placeholders?: PlaceholderSource;
  schedules?: ApiOptions['schedules'];
  /** Why there are no exports to show. */
  exportsProblem?: ApiOptions['problem'];
  /** The problem that the probes report. */
  problem?: () => string | undefined;
}

export async function startHttpApp(options: HttpAppOptions = {}): Promise<HttpApp> {
  const { authorize, tls, clock = systemClock, changesClock = systemClock, problem = () => undefined, placeholders, schedules } = options;
  const { metrics = { scrape: async () => ({ contentType: 'text/plain', text: 'metrics' }) } } = options;
  const ended = new AbortController();
  const warnings: string[] = [];
  const warn = (message: string) => void warnings.push(message);
  const registry = createExportRegistry(systemClock, placeholders);
  const changes = createChangeStream({ registry, clock: changesClock, warn, signal: ended.signal });
  const health = { liveness: () => ({ problem: problem(), facts: 'facts' }), readiness: async () => problem() };
  const app = createApp({
    exports: { registry, changes, version: '1.2.3', schedules, problem: options.exportsProblem },
    metrics,
    health,
    authorize,
    warn,
  });
  const server = await startServer(app, { host: '127.0.0.1', port: 0, tls, clock, warn });
  const url = `${tls === undefined ? 'http' : 'https'}://127.0.0.1:${server.port}`;
  return {
    registry,
    port: server.port,
    url,
    warnings,
    get: (place, init) => fetch(`${url}${place}`, init),
    async [Symbol.asyncDispose]() {
      ended.abort(new DiskliftError('Cancelled', 'the test ends'));
      await server[Symbol.asyncDispose]();
    },
  };
}

/** A request as a store has it. */
export function storedRequest(
  name: string,
  status?: DiskExportStatus,
  destination: object = { http: { url: 'https://backup.example/{name}/{disk}.qcow2' } },
): StoredRequest {
  const request = validateDiskExport(diskExport(name, destination));
  return { kind: 'request', request: status === undefined ? request : { ...request, status }, isTerminating: false };
}

export function statusOf(phase: NonNullable<DiskExportStatus['phase']>, facts: Partial<DiskExportStatus> = {}): DiskExportStatus {
  const time = '2026-01-01T00:00:00Z';
  const isOver = ['Succeeded', 'Failed', 'Cancelled'].includes(phase);
  return { phase, startTime: time, ...(isOver ? { completionTime: time } : {}), ...facts };
}
