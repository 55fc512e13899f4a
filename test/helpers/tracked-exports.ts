/** Exports of one claim in this process, planned and run as a sidecar does, one after the other. */

import { createBufferPool } from '../../src/common/buffers.ts';
import { systemClock } from '../../src/common/clock.ts';
import { createLimiter } from '../../src/common/limiter.ts';
import type { RequestEnd } from '../../src/engine/run-request.ts';
import { runRequest } from '../../src/engine/run-request.ts';
import { loadLibc } from '../../src/native/libc.ts';
import { createNetworkAccess } from '../../src/network/destination-policy.ts';
import type { DiskExport, DiskExportStatus } from '../../src/resource/disk-export.ts';
import { validateDiskExport } from '../../src/resource/validate.ts';
import type { RequestEvent } from '../../src/stores/contract.ts';
import { composePlan, type ExportEnvironment } from '../../src/wiring/export.ts';
import { NEVER } from './image-in-process.ts';
import { NAMESPACE } from './manifest.ts';

export interface TrackedExport {
  name: string;
  /** Mount point of the claim. */
  volume: string;
  spec: Record<string, unknown>;
  credentials?: Record<string, string>;
  /** Creation of the request, in RFC 3339. */
  created?: string;
  uid?: string;
  /** Status of an earlier run. */
  status?: DiskExportStatus;
  /** Aborted to stop the process. */
  stop?: AbortSignal;
}

export interface TrackedEnd extends RequestEnd {
  events: RequestEvent[];
  request: DiskExport;
}

/** @throws DiskliftError for a request that cannot be planned */
export async function runTracked(tracked: TrackedExport): Promise<TrackedEnd> {
  const { name, volume, spec, credentials = {}, created = '2026-11-30T01:00:00Z', uid, status, stop = NEVER } = tracked;
  const request = validateDiskExport({
    apiVersion: 'disklift.dev/v1alpha1',
    kind: 'DiskExport',
    metadata: { name, namespace: NAMESPACE, ...(uid === undefined ? {} : { uid }) },
    spec: { source: { persistentVolumeClaim: { claimName: 'root' } }, backoffLimit: 0, ...spec },
  });
  request.metadata.creationTimestamp = created;
  if (status !== undefined) request.status = status;
  const warnings: string[] = [];
  const environment = {
    clock: systemClock,
    random: () => 0,
    volumes: new Map([['root', volume]]),
    context: {
      libc: loadLibc(),
      readLimit: createLimiter(8),
      clock: systemClock,
      signal: NEVER,
      warn: (message: string) => warnings.push(message),
    },
    resolve: async () => ({ labels: { 'disklift.dev/credentials': 'true' }, annotations: {}, data: secretOf(credentials) }),
    referencesMayCome: false,
    access: createNetworkAccess(),
    proxy: {},
    buffers: createBufferPool(64 * 1024 * 1024),
    allowAmbientCredentials: false,
  } as unknown as ExportEnvironment;
  const events: RequestEvent[] = [];
  const end = await runRequest({
    request,
    plan: () => composePlan(request, environment),
    watchers: [],
    signal: stop,
    lost: stop,
    stopping: NEVER,
    clock: systemClock,
    random: () => -0.5,
    warn: (message) => warnings.push(message),
    assertHeld: async () => {},
    writeStatus: async () => {},
    setCleanupPending: async () => {},
    isTerminating: () => false,
    recordEvent: async (event) => void events.push(event),
  });
  return { ...end, events, request };
}

function secretOf(data: Record<string, string>): Record<string, Buffer> {
  return Object.fromEntries(Object.entries(data).map(([name, value]) => [name, Buffer.from(value)]));
}
