import assert from 'node:assert/strict';
import { serves } from '../../../src/controller/served-claims.ts';
import { slimPod } from '../../../src/controller/slim-objects.ts';
import type { FleetPodObject } from '../../../src/stores/kubernetes/client/fleet-objects.ts';
import type { ContainerSpec } from '../../../src/stores/kubernetes/client/objects.ts';

interface PodParts {
  container?: Partial<ContainerSpec>;
  init?: Partial<ContainerSpec>;
  phase?: string;
  labels?: Record<string, string>;
  deletionTimestamp?: string;
}

/** As the API server sends it, and then cut as the cache keeps it. */
function podOf({ container = {}, init, phase = 'Running', ...metadata }: PodParts): FleetPodObject {
  return slimPod({
    metadata: { name: 'p', namespace: 'vms', uid: '1', resourceVersion: '1', ...metadata },
    spec: {
      volumes: [{ name: 'disks', persistentVolumeClaim: { claimName: 'root' } }],
      containers: [{ name: 'disklift', ...container }],
      ...(init && { initContainers: [{ name: 'side', ...init }] }),
    },
    status: { phase },
  });
}

const SIDECAR = { args: ['sidecar', '--volume', 'root=/disks'] };
const ONCE_BY_LABEL = { ...SIDECAR, env: [{ name: 'DISKLIFT_ONCE' }] };
const LABELS = { 'batch.kubernetes.io/job-name': 'nightly' };

const ROWS: readonly [sentence: string, parts: PodParts, isServed: boolean][] = [
  ["the chart's Deployment", { container: SIDECAR }, true],
  ['a Job of the chart for this export', { container: { args: [...SIDECAR.args, '--once', 'nightly'] } }, true],
  ['a Job of the chart for another export', { container: { args: [...SIDECAR.args, '--once', 'weekly'] } }, false],
  ["a Job of the chart's CronJob with the name of the export", { container: ONCE_BY_LABEL, labels: LABELS }, true],
  [
    "a Job of the chart's CronJob with another name",
    { container: ONCE_BY_LABEL, labels: { 'batch.kubernetes.io/job-name': 'other' } },
    false,
  ],
  ['DISKLIFT_ONCE of this export', { container: { ...SIDECAR, env: [{ name: 'DISKLIFT_ONCE', value: 'nightly' }] } }, true],
  ['an empty DISKLIFT_ONCE', { container: { ...SIDECAR, env: [{ name: 'DISKLIFT_ONCE', value: '' }] } }, true],
  ['a native sidecar', { container: { args: ['app'] }, init: { ...SIDECAR, restartPolicy: 'Always' } }, true],
  ['flags with an equals sign', { container: { args: ['sidecar', '--volume=root=/disks', '--once=nightly'] } }, true],
  ['a command in place of arguments', { container: { command: ['disklift', 'sidecar', '--volume', 'root=/disks'] } }, true],
  [
    'DISKLIFT_VOLUME with several claims',
    { container: { args: ['sidecar'], env: [{ name: 'DISKLIFT_VOLUME', value: 'data=/data,root=/disks' }] } },
    true,
  ],
  ['a sidecar of another claim', { container: { args: ['sidecar', '--volume', 'root-2=/disks'] } }, false],
  ['a sidecar that has mounted the claim but does not serve it', { container: { args: ['sidecar'] } }, false],
  ['another command', { container: { args: ['stream', '--volume', 'root=/disks'] } }, false],
  ['a pod that is being created', { container: SIDECAR, phase: 'Pending' }, true],
  ['a pod that has ended', { container: SIDECAR, phase: 'Succeeded' }, false],
  ['a pod that has failed', { container: SIDECAR, phase: 'Failed' }, false],
  ['a pod that is being deleted', { container: SIDECAR, deletionTimestamp: '2026-01-01T00:00:00Z' }, false],
];

describe('whether a pod serves an export of a claim', () => {
  for (const [sentence, parts, isServed] of ROWS)
    it(`is ${isServed} for ${sentence}`, () => {
      assert.equal(serves(podOf(parts), 'root', 'nightly'), isServed);
    });
});
