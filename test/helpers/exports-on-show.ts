/** Fills a registry with exports in every state, for people to look at. */

import { DiskliftError } from '../../src/common/errors.ts';
import type { DiskState } from '../../src/engine/observer.ts';
import { createAllocationMapBuilder } from '../../src/qcow2/write/allocation-map.ts';
import type { DiskExportStatus } from '../../src/resource/disk-export.ts';
import type { ExportRegistry } from '../../src/server/export-registry.ts';
import { statusOf, storedRequest } from './http-app.ts';

const CLUSTER = 65_536;
const GIB = 1024 * 1024 * 1024;

/** A disk as an operating system leaves it: data in clumps, zeros where files were. */
function diskState(path: string, virtualBytes: number, sentShare: number): DiskState {
  const total = virtualBytes / CLUSTER;
  const builder = createAllocationMapBuilder(virtualBytes, CLUSTER);
  let seed = 7;
  const random = (below: number) => {
    seed = (seed * 48_271) % 2_147_483_647;
    return seed % below;
  };
  while (builder.clusterCount < total) {
    const kind = (['hole', 'data', 'zero', 'data', 'hole', 'hole'] as const)[random(6)] ?? 'hole';
    const length = 1 + random(Math.ceil(total / (kind === 'hole' ? 20 : 45)));
    builder.append(kind, Math.min(length, total - builder.clusterCount));
  }
  const map = builder.build();
  const metadataBytes = 16 * CLUSTER;
  const imageBytes = metadataBytes + map.clusters.data * CLUSTER;
  return {
    ...{ path, phase: 'Streaming', attempts: 1, clusterSizeBytes: CLUSTER, virtualBytes, scannedBytes: virtualBytes, readBytes: 0 },
    ...{ imageBytes, metadataBytes, map, clusters: map.clusters, sentBytes: Math.floor(imageBytes * sentShare) },
  };
}

/** @param goOn is called with a share from 0 to 1: the progress of the running export */
export function showExports(registry: ExportRegistry): { goOn(share: number): void } {
  const failed = (reason: string, message: string): Partial<DiskExportStatus> => ({
    message,
    conditions: [{ type: 'Succeeded', status: 'False', reason, message, lastTransitionTime: '2026-01-01T00:00:00Z' }],
    disks: [
      { path: 'disk.img', phase: 'Failed', attempts: 7, sentBytes: 3 * GIB, imageBytes: 9 * GIB, virtualBytes: 40 * GIB, reason, message },
    ],
    progress: { percent: 33, virtualBytes: 40 * GIB, imageBytes: 9 * GIB, sentBytes: 3 * GIB, skippedBytes: 31 * GIB, written: '3Gi' },
  });
  const waiting = (reason: string, why: string): Partial<DiskExportStatus> => {
    const message = `disk.img: waits until the disk is free: ${why}`;
    return { message, conditions: [{ type: 'Succeeded', status: 'Unknown', reason, message, lastTransitionTime: '2026-01-01T00:00:00Z' }] };
  };
  const arrived: Partial<DiskExportStatus> = {
    completionTime: '2026-01-01T00:03:41Z',
    disks: [
      {
        path: 'disk.img',
        phase: 'Succeeded',
        attempts: 1,
        sentBytes: 6 * GIB,
        imageBytes: 6 * GIB,
        virtualBytes: 20 * GIB,
        sha256: 'a'.repeat(64),
      },
    ],
    progress: { percent: 100, virtualBytes: 20 * GIB, imageBytes: 6 * GIB, sentBytes: 6 * GIB, skippedBytes: 14 * GIB, written: '6Gi' },
  };
  const s3 = { s3: { endpoint: 'https://s3.example', region: 'eu', bucket: 'backups', key: '{namespace}/{name}/{disk}.qcow2' } };
  const rows = {
    'fedora-nightly': storedRequest('fedora-nightly', undefined, s3),
    'windows-2022-template': storedRequest(
      'windows-2022-template',
      statusOf('Pending', waiting('SourceInUse', 'virt-launcher-windows (pid 4711) has it open for writing')),
    ),
    'postgres-archive': storedRequest(
      'postgres-archive',
      statusOf('Failed', failed('DestinationUnreachable', 'https://backup.example/postgres: connection refused (after 7 attempts)')),
    ),
    'build-runner-cache': storedRequest('build-runner-cache', statusOf('Cancelled', { message: 'cancelled by spec.cancel' })),
    'mail-gateway': storedRequest('mail-gateway', statusOf('Succeeded', arrived), s3),
    'legacy-erp': storedRequest('legacy-erp', statusOf('Succeeded', arrived), { tcp: { host: 'vault.example', port: 9475 } }),
  };
  for (const [name, stored] of Object.entries(rows)) {
    if (stored.kind === 'request') stored.request.spec.source.persistentVolumeClaim = { claimName: `${name}-root` };
    registry.onRead(`vms/${name}`, stored);
  }
  const disk = diskState('disk.img', 40 * GIB, 0.4);
  const watcher = registry.onBegin('vms/fedora-nightly');
  watcher.observer.onChange?.(disk);
  const ended = registry.onBegin('vms/postgres-archive');
  ended.observer.onChange?.({ ...diskState('disk.img', 40 * GIB, 0.33), phase: 'Failed', attempts: 7 });
  ended.end('Failed', new DiskliftError('DestinationUnreachable', 'refused'));
  registry.onRead('vms/postgres-archive', rows['postgres-archive']);
  registry.onStatus(
    'vms/postgres-archive',
    statusOf('Failed', failed('DestinationUnreachable', 'https://backup.example/postgres: connection refused (after 7 attempts)')),
  );
  return {
    goOn(share) {
      disk.sentBytes = Math.floor((disk.imageBytes ?? 0) * share);
      watcher.observer.onProgress?.(disk);
    },
  };
}
