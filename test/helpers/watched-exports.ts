/**
 * A sidecar and a Prometheus that scrapes it, during four exports of one disk with four outcomes. A page has the
 * metrics of a controller.
 */

import { mkdir } from 'node:fs/promises';
import type http from 'node:http';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ruleFile } from '../../monitoring/rule-file.ts';
import { packageVersion } from '../../src/config/environment.ts';
import type { DiskStatus } from '../../src/resource/disk-export.ts';
import { startControllerPage } from './controller-page.ts';
import { freePort } from './free-port.ts';
import { startHttpSink } from './http-sink.ts';
import { diskExport } from './manifest.ts';
import { type Prometheus, startPrometheus } from './prometheus.ts';
import { apply, type Sidecar, startSidecar, statusOf, waitForStatus } from './sidecar.ts';
import { createDisk } from './sparse-disk.ts';

const MIB = 1024 * 1024;

/** The disk, in clusters of 64 KiB. */
export const CLUSTERS = { total: 1024, data: 640, zero: 64, hole: 320 };

/** A busy machine answers within it as well. */
const SCRAPE_INTERVAL_MS = 1000;

/** Minutes of the rules are seconds. */
export const SPEEDUP = 60;

export const NAMES = ['steady', 'retried', 'failed', 'stalled'] as const;

/** Seconds for which the oldest export waits when the exports begin. */
export const LATE_SECONDS = 600;

const NO_OBJECTS = { jobs: 0, configMaps: 0, persistentVolumeClaims: 0, volumeSnapshots: 0, virtualMachineSnapshots: 0 };

/** The controller has three exports in slots. A snapshot is being removed. */
export const FLEET = {
  waitingCount: 7,
  heldCount: 3,
  jobs: { Suspended: 1, Pending: 0, Running: 2, Ended: 0 },
  objects: { ...NO_OBJECTS, jobs: 3, volumeSnapshots: 2, persistentVolumeClaims: 1 },
  leftovers: { ...NO_OBJECTS, volumeSnapshots: 1 },
};

export interface WatchedExports extends AsyncDisposable {
  sidecar: Sidecar;
  prometheus: Prometheus;
  /** The label `instance` of the metrics. */
  instance: string;
  /** The label `instance` of the controller's metrics. */
  controllerInstance: string;
  /** The label `instance` of a sidecar that does not run. */
  goneInstance: string;
  startMs: number;
  statusOf(name: (typeof NAMES)[number]): { disk: DiskStatus; completionTime?: string | undefined };
}

/** One schedule, as the metrics of the controller have it. Times are in milliseconds since the epoch. */
export const SCHEDULE = { lastSuccessMs: Date.now() - 3_600_000, nextMs: Date.now() + 82_800_000, overdueMs: Date.now() + 126_000_000 };

/** Answers by the path of the request. @param bytesPerSecond rate at which bodies are read */
function answer(bytesPerSecond: number): (request: http.IncomingMessage, response: http.ServerResponse) => void {
  async function take(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const startMs = performance.now();
    let takenBytes = 0;
    for await (const chunk of request) {
      takenBytes += (chunk as Buffer).length;
      const aheadMs = (takenBytes / bytesPerSecond) * 1000 - (performance.now() - startMs);
      if (request.url !== '/retried' && aheadMs > 10) await sleep(aheadMs);
    }
    response.writeHead(201).end();
  }
  return (request, response) => {
    // Its connection is cut when the server ends.
    if (request.url !== '/stalled') take(request, response).catch(() => {});
  };
}

/** @param directory for all files; the caller removes it @returns when all exports except the stalled one have ended */
export async function startWatchedExports(directory: string, bytesPerSecond: number): Promise<WatchedExports> {
  const stack = new AsyncDisposableStack();
  try {
    await mkdir(path.join(directory, 'volume'));
    await createDisk(path.join(directory, 'volume', 'disk.img'), 64 * MIB, [
      { offsetBytes: MIB, lengthBytes: 40 * MIB, content: 'random' },
      { offsetBytes: 48 * MIB, lengthBytes: 4 * MIB, content: 'zeros' },
    ]);
    let refusals = 0;
    const sink = stack.use(
      await startHttpSink({
        onExpect(request, response) {
          if (request.url === '/failed') return response.writeHead(413).end('too large');
          if (request.url === '/retried' && refusals++ === 0) return response.writeHead(503).end('come again');
          response.writeContinue();
          answer(bytesPerSecond)(request, response);
        },
      }),
    );
    const requests = path.join(directory, 'requests');
    const volumes = [`claim=${path.join(directory, 'volume')}`];
    const sidecar = stack.use(await startSidecar({ requests, volumes, flags: ['--max-concurrent-exports', '4'] }));
    const [instance, goneInstance] = [`127.0.0.1:${sidecar.port}`, `127.0.0.1:${await freePort()}`];
    const startMs = Date.now();
    const lateMs = startMs - LATE_SECONDS * 1000;
    const controller = stack.use(await startControllerPage(packageVersion(), { ...FLEET, oldestWaitingMs: lateMs }));
    controller.metrics.schedules.onSchedule('vms', 'nightly', { isSuspended: false, ...SCHEDULE });
    const prometheus = stack.use(
      await startPrometheus({
        directory: path.join(directory, 'prometheus'),
        jobs: { 'vms/disklift': [instance, goneInstance], 'backup/disklift': [controller.instance] },
        scrapeIntervalMs: SCRAPE_INTERVAL_MS,
        rules: ruleFile({ speedup: SPEEDUP }),
      }),
    );
    // Prometheus has to scrape the counters while they are 0.
    await until(async () => (await prometheus.query('disklift_exports_active')).length === 1);
    await sleep(2 * SCRAPE_INTERVAL_MS);
    controller.metrics.onReconcile(20, 'StoreRefused');
    controller.metrics.onApiFailure('Forbidden');
    controller.metrics.onWarning('SnapshotFailed');
    for (const name of NAMES) await apply(requests, diskExport(name, { http: { url: `${sink.url}/${name}` } }));
    for (const name of NAMES) if (name !== 'stalled') await waitForStatus(requests, name);
    await until(async () => (await prometheus.query('sum(disklift_exports_total)'))[0]?.value === NAMES.length - 1);
    const owned = stack.move();
    return {
      sidecar,
      prometheus,
      instance,
      controllerInstance: controller.instance,
      goneInstance,
      startMs,
      statusOf(name) {
        const { disks, completionTime } = statusOf(requests, name) ?? {};
        return { disk: disks?.[0] as DiskStatus, completionTime };
      },
      [Symbol.asyncDispose]: () => owned.disposeAsync(),
    };
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}

const MAX_WAIT_MS = 30_000;

/** Polls until a condition holds. */
export async function until(isSo: () => Promise<boolean>): Promise<void> {
  const endMs = performance.now() + MAX_WAIT_MS;
  while (!(await isSo())) {
    if (performance.now() > endMs) throw new Error(`still not so: ${isSo}`);
    await sleep(100);
  }
}
