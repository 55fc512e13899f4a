/** Observations for tests of decisions, with the fields that count. */

import type { Observed, VolumeFacts, WorkerPod } from '../../../src/controller/observed.ts';
import type { ReconcileSettings } from '../../../src/controller/reconcile.ts';
import type { DiskExport, DiskExportStatus } from '../../../src/resource/disk-export.ts';
import { validateDiskExport } from '../../../src/resource/validate.ts';
import type { ClaimObject, JobObject, VolumeSnapshotObject } from '../../../src/stores/kubernetes/client/fleet-objects.ts';
import { TEMPLATE } from '../../helpers/fleet/fleet-scene.ts';

export const NOW_MS = Date.parse('2026-01-01T01:00:00Z');

/** The time so many seconds before now. */
export function ago(seconds: number): string {
  return new Date(NOW_MS - seconds * 1000).toISOString().replace('.000Z', 'Z');
}

export const SETTINGS: ReconcileSettings = {
  podStartTimeoutMs: 600_000,
  template: TEMPLATE,
};

export function requestOf(spec: object = {}, status?: DiskExportStatus): DiskExport {
  const request = validateDiskExport({
    apiVersion: 'disklift.dev/v1alpha1',
    kind: 'DiskExport',
    metadata: { name: 'nightly', namespace: 'vms', uid: 'u-1', generation: 1, creationTimestamp: ago(3000) },
    spec: {
      source: { persistentVolumeClaim: { claimName: 'root' } },
      destination: { http: { url: 'https://images.example/{name}/{disk}.qcow2' } },
      ...spec,
    },
  });
  return status === undefined ? request : { ...request, status };
}

const metadataOf = (name: string, createdAgo = 60) => ({
  name,
  namespace: 'vms',
  uid: `uid-of-${name}`,
  resourceVersion: '1',
  creationTimestamp: ago(createdAgo),
});

export function jobOf(status: JobObject['status'] = {}, name = 'disklift-u-1', spec: object = {}): JobObject {
  return { metadata: metadataOf(name), spec: { template: { spec: {} }, ...spec }, status: { startTime: ago(60), ...status } };
}

export function endedJob(type: 'Complete' | 'Failed', endedAgo = 1, name?: string): JobObject {
  return jobOf({ conditions: [{ type, status: 'True', message: 'BackoffLimitExceeded', lastTransitionTime: ago(endedAgo) }] }, name);
}

export function podOf(phase: string, parts: Partial<WorkerPod> = {}): WorkerPod {
  return { name: 'disklift-u-1-0', uid: 'pod-1', phase, isLost: false, nodeName: undefined, problem: undefined, ...parts };
}

export function snapshotOf(status: VolumeSnapshotObject['status'], createdAgo = 60, isInUse = true): VolumeSnapshotObject {
  const metadata = { ...metadataOf('disklift-u-1-0', createdAgo), annotations: { 'disklift.dev/in-use': String(isInUse) } };
  return { metadata, spec: { source: { persistentVolumeClaimName: 'root' } }, ...(status && { status }) };
}

export function claimOf(name = 'root', phase = 'Bound'): ClaimObject {
  return {
    metadata: metadataOf(name),
    spec: { accessModes: ['ReadWriteOnce'], storageClassName: 'fast', resources: { requests: { storage: '10Gi' } } },
    status: { phase },
  };
}

export function volumeOf(parts: Partial<VolumeFacts> = {}): VolumeFacts {
  return {
    key: 'root',
    claimName: 'root',
    claim: claimOf(),
    writer: undefined,
    node: undefined,
    snapshotClass: undefined,
    ...parts,
  };
}

export const WRITER = { writer: 'the container compute of the pod virt-launcher', node: 'node-a' };
export const CHOSEN = { snapshotClass: { kind: 'chosen', name: 'fast-snapshots', driver: 'csi.example' } } as const;

export interface ObservedParts extends Partial<Omit<Observed, 'children'>> {
  children?: Partial<Observed['children']>;
}

export function observedOf({ children, ...parts }: ObservedParts = {}): Observed {
  return {
    nowMs: NOW_MS,
    request: requestOf(),
    isTerminating: false,
    hasOpenUpload: false,
    isNamespaceTerminating: false,
    stoppingMs: 0,
    isServed: false,
    hasSlot: true,
    children: {
      job: undefined,
      cleanupJob: undefined,
      pods: [],
      vmSnapshot: undefined,
      snapshots: new Map(),
      clones: new Map(),
      configMap: undefined,
      ...children,
    },
    source: { volumes: [volumeOf()] },
    ...parts,
  };
}
