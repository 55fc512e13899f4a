/** One table: an observation, and the decision. */

import assert from 'node:assert/strict';
import type { Decision } from '../../../src/controller/decision.ts';
import { reconcile } from '../../../src/controller/reconcile.ts';
import type { VmSnapshotState } from '../../../src/controller/virtual-machine/read-vm-snapshot.ts';
import type { DiskExportStatus } from '../../../src/resource/disk-export.ts';
import {
  ago,
  CHOSEN,
  claimOf,
  endedJob,
  jobOf,
  type ObservedParts,
  observedOf,
  podOf,
  requestOf,
  SETTINGS,
  snapshotOf,
  volumeOf,
  WRITER,
} from './observed-facts.ts';

interface Row {
  sentence: string;
  parts: ObservedParts;
  /** Actions, as `create jobs disklift-u-1`. */
  actions?: readonly string[];
  slot: Decision['slot'];
  /** Reason of the report, or `PHASE REASON` where it ends the export. */
  report?: string;
  words?: RegExp;
  facts?: object;
}

const READY = { readyToUse: true, restoreSize: '10Gi', creationTime: '2026-01-01T00:30:00Z' };
const SNAPSHOTS = new Map([[0, snapshotOf(READY)]]);
const CLONES = new Map([[0, claimOf('disklift-u-1-0')]]);
const UNBOUND = new Map([[0, claimOf('disklift-u-1-0', 'Pending')]]);
const IN_USE = { source: { volumes: [volumeOf({ ...WRITER, ...CHOSEN })] } };

const RUN = ['ensure-access', 'create jobs disklift-u-1'];
const RUN_CLONE = ['create persistentVolumeClaims disklift-u-1-0', ...RUN];

function begun(fields: DiskExportStatus = {}, spec: object = {}) {
  return requestOf(spec, { startTime: ago(100), ...fields });
}

function unready(seconds: number, reason = 'ClaimNotFound', spec: object = {}) {
  const condition = { reason, message: `${reason} was the last state` };
  return begun(
    {
      conditions: [
        { type: 'Succeeded', status: 'Unknown', ...condition },
        { type: 'SourceReady', status: 'False', lastTransitionTime: ago(seconds), ...condition },
      ],
    },
    spec,
  );
}

const finished = (endedAgo: number, spec: object = {}) => begun({ phase: 'Succeeded', completionTime: ago(endedAgo) }, spec);
const WITH_VM = { source: { virtualMachine: { name: 'db01' } } };

const PREPARE: readonly Row[] = [
  { sentence: 'leaves an export alone that a sidecar serves', parts: { isServed: true, source: undefined }, slot: 'free' },
  { sentence: 'asks for a slot before anything is made', parts: { hasSlot: false }, slot: 'needed' },
  { sentence: 'asks for a slot when it has waited without a look', parts: { hasSlot: false, source: undefined }, slot: 'needed' },
  {
    sentence: 'starts the Job of a free claim',
    parts: {},
    actions: RUN,
    slot: 'kept',
    report: 'Starting',
    facts: { consistency: 'Offline' },
  },
  {
    sentence: 'starts the Job of a claim in use with snapshot.mode Never, and does not say that it is offline',
    parts: { request: requestOf({ snapshot: { mode: 'Never' } }), source: { volumes: [volumeOf(WRITER)] } },
    actions: RUN,
    slot: 'kept',
    report: 'Starting',
    facts: { consistency: undefined },
  },
  {
    sentence: 'takes a snapshot of a claim in use',
    parts: IN_USE,
    actions: ['create volumeSnapshots disklift-u-1-0'],
    slot: 'kept',
    report: 'SnapshotPending',
  },
  {
    sentence: 'takes a snapshot of a free claim with snapshot.mode Always',
    parts: { request: requestOf({ snapshot: { mode: 'Always' } }), source: { volumes: [volumeOf(CHOSEN)] } },
    actions: ['create volumeSnapshots disklift-u-1-0'],
    slot: 'kept',
    report: 'SnapshotPending',
  },
  {
    sentence: 'waits for its snapshot',
    parts: { ...IN_USE, children: { snapshots: new Map([[0, snapshotOf(undefined)]]) } },
    slot: 'kept',
    report: 'SnapshotPending',
  },
  {
    sentence: 'reports the error of its snapshot, and waits for the driver to try again',
    parts: { ...IN_USE, children: { snapshots: new Map([[0, snapshotOf({ error: { message: 'pool is full' } })]]) } },
    slot: 'kept',
    report: 'SnapshotFailed',
    words: /pool is full/,
  },
  {
    sentence: 'ends an export whose snapshot is not ready in time',
    parts: { ...IN_USE, request: begun(), children: { snapshots: new Map([[0, snapshotOf(undefined, 600)]]) } },
    slot: 'kept',
    report: 'Failed SnapshotPending',
    words: /not ready within 600 seconds/,
  },
  {
    sentence: 'does not count the time before its snapshot was made',
    parts: { ...IN_USE, request: unready(5000), children: { snapshots: new Map([[0, snapshotOf(undefined, 599)]]) } },
    slot: 'kept',
    report: 'SnapshotPending',
  },
  {
    sentence: 'clones a snapshot that is ready, and starts the Job at once, since the clone may wait for the pod',
    parts: { ...IN_USE, children: { snapshots: SNAPSHOTS } },
    actions: RUN_CLONE,
    slot: 'kept',
    report: 'ClonePending',
    facts: { consistency: 'Crash', snapshotTime: '2026-01-01T00:30:00Z' },
  },
  {
    sentence: 'says Crash although the writer ended after the snapshot was requested',
    parts: { children: { snapshots: SNAPSHOTS } },
    actions: RUN_CLONE,
    slot: 'kept',
    report: 'ClonePending',
    facts: { consistency: 'Crash' },
  },
  {
    sentence: 'says Offline when nobody wrote, neither at the request of the snapshot nor now',
    parts: { children: { snapshots: new Map([[0, snapshotOf(READY, 60, false)]]) } },
    actions: RUN_CLONE,
    slot: 'kept',
    report: 'ClonePending',
    facts: { consistency: 'Offline' },
  },
  {
    sentence: 'starts the Job again when somebody has deleted it, with the clone that it has',
    parts: { ...IN_USE, request: begun(), children: { snapshots: SNAPSHOTS, clones: CLONES } },
    actions: RUN,
    slot: 'kept',
    report: 'Starting',
  },
  {
    sentence: 'does not start a Job while a pod of the deleted one may run',
    parts: { children: { pods: [podOf('Running')] } },
    slot: 'kept',
  },
  {
    sentence: 'keeps the refusal in the status while it tries again',
    parts: { request: unready(10, 'QuotaExceeded') },
    actions: RUN,
    slot: 'kept',
    report: 'QuotaExceeded',
    facts: { consistency: 'Offline' },
  },
  {
    sentence: 'ends an export whose objects are refused for too long',
    parts: { request: unready(600, 'QuotaExceeded') },
    slot: 'kept',
    report: 'Failed QuotaExceeded',
    words: /not ready within 600 seconds/,
  },
  {
    sentence: 'waits without a slot for a claim that is missing',
    parts: { source: { volumes: [volumeOf({ claim: undefined })] } },
    slot: 'free',
    report: 'ClaimNotFound',
  },
  {
    sentence: 'ends an export whose claim is missing for too long',
    parts: {
      request: unready(30, 'ClaimNotFound', { snapshot: { timeoutSeconds: 30 } }),
      source: { volumes: [volumeOf({ claim: undefined })] },
    },
    slot: 'free',
    report: 'Failed ClaimNotFound',
    words: /within 30 seconds/,
  },
  {
    sentence: 'waits for a claim that has lost its volume',
    parts: { source: { volumes: [volumeOf({ claim: claimOf('root', 'Lost') })] } },
    slot: 'free',
    report: 'ClaimLost',
  },
  {
    sentence: 'waits without a slot for a given snapshot that is not ready',
    parts: {
      request: requestOf({ source: { volumeSnapshot: { name: 'monday' } } }),
      source: { volumes: [volumeOf({ claim: undefined, given: snapshotOf(undefined) })] },
      hasSlot: false,
    },
    slot: 'free',
    report: 'SnapshotPending',
  },
  {
    sentence: 'clones a given snapshot, and says nothing about its consistency',
    parts: {
      request: requestOf({ source: { volumeSnapshot: { name: 'monday' } } }),
      source: { volumes: [volumeOf({ claim: undefined, given: snapshotOf(READY) })] },
    },
    actions: RUN_CLONE,
    slot: 'kept',
    report: 'ClonePending',
    facts: { consistency: undefined, snapshotTime: '2026-01-01T00:30:00Z' },
  },
  {
    sentence: 'fails without a class for the snapshot, and names the writer',
    parts: { source: { volumes: [volumeOf({ ...WRITER, snapshotClass: { kind: 'none', message: 'no class' } })] } },
    slot: 'kept',
    report: 'Failed SnapshotClassNotFound',
    words: /^the claim root is in use by the container compute of the pod virt-launcher, and no class$/,
  },
  {
    sentence: 'fails with a class that is refused',
    parts: {
      source: {
        volumes: [volumeOf({ ...WRITER, snapshotClass: { kind: 'refused', reason: 'SnapshotClassRetains', message: 'retains' } })],
      },
    },
    slot: 'kept',
    report: 'Failed SnapshotClassRetains',
  },
  {
    sentence: 'fails with a source that can never be',
    parts: { source: { volumes: [], refused: { reason: 'VolumeNotFound', message: 'no volume x' } } },
    slot: 'kept',
    report: 'Failed VolumeNotFound',
  },
  {
    sentence: 'waits for a VM that is missing',
    parts: { request: requestOf(WITH_VM), source: { volumes: [], missing: { reason: 'VirtualMachineNotFound', message: 'no VM' } } },
    slot: 'free',
    report: 'VirtualMachineNotFound',
  },
  {
    sentence: 'fails with a VM without volumes, and lists them',
    parts: {
      request: requestOf(WITH_VM),
      source: {
        volumes: [],
        vm: { isRunning: true, leftOut: [{ name: 'x', why: 'is an empty disk' }], snapshot: undefined, manifest: undefined },
      },
    },
    slot: 'kept',
    report: 'Failed NoDisks',
    words: /not exported: x \(is an empty disk\)/,
  },
  {
    sentence: 'starts the Job of a stopped VM with vm.yaml',
    parts: {
      request: requestOf(WITH_VM),
      source: { volumes: [volumeOf({ key: 'disk0' })], vm: { isRunning: false, leftOut: [], snapshot: undefined, manifest: 'kind: VM' } },
    },
    actions: ['ensure-access', 'create configMaps disklift-u-1', 'create jobs disklift-u-1'],
    slot: 'kept',
    report: 'Starting',
    facts: { consistency: 'Offline' },
  },
  {
    sentence: 'asks KubeVirt for a snapshot of a running VM',
    parts: {
      request: requestOf(WITH_VM),
      source: { volumes: [volumeOf(WRITER)], vm: { isRunning: true, leftOut: [], snapshot: undefined, manifest: undefined } },
    },
    actions: ['create virtualMachineSnapshots disklift-u-1'],
    slot: 'kept',
    report: 'SnapshotPending',
  },
  {
    sentence: 'shows the error of a VM snapshot that KubeVirt tries again',
    parts: withVmSnapshot({ state: 'pending', message: 'command Freeze failed', hasError: true }),
    slot: 'kept',
    report: 'SnapshotFailed',
    words: /^command Freeze failed$/,
  },
  {
    sentence: 'says what KubeVirt waited for when it gives up',
    parts: withVmSnapshot({ state: 'failed', reason: 'SnapshotFailed', message: 'snapshot deadline exceeded' }),
    slot: 'kept',
    report: 'Failed SnapshotFailed',
    words: /^snapshot deadline exceeded; before that: the agent is busy$/,
  },
  {
    sentence: 'does not repeat what KubeVirt says itself when it gives up',
    parts: withVmSnapshot({ state: 'failed', reason: 'SnapshotFailed', message: 'snapshot deadline exceeded: the agent is busy' }),
    slot: 'kept',
    report: 'Failed SnapshotFailed',
    words: /^snapshot deadline exceeded: the agent is busy$/,
  },
];

/** KubeVirt has begun a snapshot. The last known state was that the agent is busy. */
function withVmSnapshot(snapshot: VmSnapshotState): ObservedParts {
  const condition = { type: 'SourceReady', status: 'False', reason: 'SnapshotFailed', message: 'the agent is busy' } as const;
  const volumes = snapshot.state === 'pending' ? [] : [volumeOf()];
  return {
    request: requestOf(WITH_VM, { conditions: [condition] }),
    children: { vmSnapshot: { metadata: { ...snapshotOf({}).metadata, name: 'disklift-u-1' }, spec: {} } },
    source: { volumes, vm: { isRunning: true, leftOut: [], snapshot, manifest: undefined } },
  };
}

const FOLLOW: readonly Row[] = [
  { sentence: 'does nothing while the worker runs', parts: { children: { job: jobOf(), pods: [podOf('Running')] } }, slot: 'kept' },
  {
    sentence: 'does nothing while a pod that the kubelet calls pending has claimed the export',
    parts: { request: begun({ executor: { podUID: 'pod-1' } }), children: { job: jobOf(), pods: [podOf('Pending')] } },
    slot: 'kept',
  },
  {
    sentence: 'does nothing while a pod may run that the cache has not received',
    parts: { request: begun({ executor: { podUID: 'pod-1' } }), children: { job: jobOf({ active: 1 }) } },
    slot: 'kept',
  },
  {
    sentence: 'says that a pod is being started',
    parts: { children: { job: jobOf(), pods: [podOf('Pending')] } },
    slot: 'kept',
    report: 'Starting',
  },
  {
    sentence: 'says why a pod does not start',
    parts: { children: { job: jobOf(), pods: [podOf('Pending', { problem: { reason: 'ImagePullFailed', message: '401' } })] } },
    slot: 'kept',
    report: 'ImagePullFailed',
  },
  {
    sentence: 'says what events say of the pod',
    parts: {
      children: { job: jobOf(), pods: [podOf('Pending')], startProblem: { reason: 'VolumeAttachFailed', message: 'multi-attach' } },
    },
    slot: 'kept',
    report: 'VolumeAttachFailed',
  },
  {
    sentence: 'says that another program has suspended the Job',
    parts: { children: { job: jobOf({}, undefined, { suspend: true }) } },
    slot: 'kept',
    report: 'JobSuspended',
  },
  {
    sentence: 'says why the last pod failed while the next one starts',
    parts: {
      children: {
        job: jobOf(),
        pods: [podOf('Failed', { problem: { reason: 'WorkerFailed', message: 'exit code 1' } }), podOf('Pending')],
      },
    },
    slot: 'kept',
    report: 'Starting',
    words: /^another pod is being started; disklift-u-1-0: exit code 1$/,
  },
  {
    sentence: 'ends an export whose first pod does not start in time',
    parts: { request: begun(), children: { job: jobOf({ startTime: ago(600) }), pods: [podOf('Pending')] } },
    slot: 'kept',
    report: 'Failed Starting',
    words: /no pod started within 600 seconds/,
  },
  {
    sentence: 'waits for the clone of the snapshot',
    parts: { children: { job: jobOf(), snapshots: SNAPSHOTS, clones: UNBOUND, pods: [podOf('Pending')] } },
    slot: 'kept',
    report: 'ClonePending',
  },
  {
    sentence: 'says why the clone has no volume',
    parts: {
      children: { job: jobOf(), snapshots: SNAPSHOTS, clones: UNBOUND, startProblem: { reason: 'CloneFailed', message: 'no space' } },
    },
    slot: 'kept',
    report: 'CloneFailed',
    words: /no space/,
  },
  {
    sentence: 'gives the reason of the storage, not that of a pod that waits for the clone',
    parts: {
      children: {
        job: jobOf(),
        snapshots: SNAPSHOTS,
        clones: UNBOUND,
        pods: [podOf('Pending', { problem: { reason: 'Unschedulable', message: 'no node' } })],
        startProblem: { reason: 'CloneFailed', message: 'no space' },
      },
    },
    slot: 'kept',
    report: 'CloneFailed',
    words: /no space/,
  },
  {
    sentence: 'ends an export whose clone is late, counted from its snapshot',
    parts: { request: begun(), children: { job: jobOf(), snapshots: new Map([[0, snapshotOf(READY, 600)]]), clones: UNBOUND } },
    slot: 'kept',
    report: 'Failed ClonePending',
  },
  {
    sentence: 'does not count the time in which the Job was suspended',
    parts: {
      children: { job: jobOf({ startTime: ago(50) }), snapshots: new Map([[0, snapshotOf(READY, 605)]]), clones: UNBOUND },
    },
    slot: 'kept',
    report: 'ClonePending',
  },
  {
    sentence: 'does not end an export while its Job is suspended',
    parts: {
      children: { job: jobOf({}, undefined, { suspend: true }), snapshots: new Map([[0, snapshotOf(READY, 5000)]]), clones: UNBOUND },
    },
    slot: 'kept',
    report: 'JobSuspended',
  },
  {
    sentence: 'ends an export whose Job has failed, before the Job is removed',
    parts: {
      children: { job: endedJob('Failed'), pods: [podOf('Failed', { problem: { reason: 'WorkerFailed', message: 'exit code 1' } })] },
    },
    slot: 'kept',
    report: 'Failed WorkerFailed',
    words: /before it could begin: disklift-u-1-0: exit code 1/,
  },
  { sentence: 'waits for the outcome of a complete Job to show', parts: { children: { job: endedJob('Complete', 59) } }, slot: 'kept' },
  {
    sentence: 'ends an export whose complete Job shows no outcome',
    parts: { children: { job: endedJob('Complete', 60) } },
    slot: 'kept',
    report: 'Failed WorkerFailed',
  },
];

function terminating<T extends { metadata: object }>(object: T): T {
  return { ...object, metadata: { ...object.metadata, deletionTimestamp: ago(1) } };
}

const CANCEL = { cancel: true };
const LOST_POD = podOf('Running', { isLost: true, nodeName: 'node-a' });
const END: readonly Row[] = [
  {
    sentence: 'cancels an export that waits',
    parts: { request: requestOf(CANCEL), hasSlot: false },
    slot: 'kept',
    report: 'Cancelled Cancelled',
  },
  {
    sentence: 'cancels an export whose pod has not begun, before its Job is removed',
    parts: { request: requestOf(CANCEL), children: { job: jobOf(), pods: [podOf('Pending')] } },
    slot: 'kept',
    report: 'Cancelled Cancelled',
  },
  {
    sentence: 'lets a worker that runs cancel its own export',
    parts: { request: requestOf(CANCEL), children: { job: jobOf(), pods: [podOf('Running')] } },
    slot: 'kept',
  },
  {
    sentence: 'ends an export at its deadline, with the last state',
    parts: { request: begun({ message: 'the clone has no volume yet' }, { activeDeadlineSeconds: 100 }) },
    slot: 'kept',
    report: 'Failed DeadlineExceeded',
    words: /within 100 seconds; the last state: the clone has no volume yet/,
  },
  {
    sentence: 'gives the worker of a finished export time to end',
    parts: { request: finished(14), children: { job: jobOf(), pods: [podOf('Running')] } },
    slot: 'kept',
  },
  {
    sentence: 'removes all objects of a finished export',
    parts: { request: finished(1), children: { job: endedJob('Complete'), snapshots: SNAPSHOTS, clones: CLONES } },
    actions: ['remove jobs disklift-u-1', 'remove persistentVolumeClaims disklift-u-1-0'],
    slot: 'kept',
  },
  {
    sentence: 'removes the snapshot when its clone is gone',
    parts: { request: finished(1), children: { snapshots: SNAPSHOTS } },
    actions: ['remove volumeSnapshots disklift-u-1-0'],
    slot: 'kept',
  },
  {
    sentence: 'holds no slot for a snapshot that storage has yet to delete',
    parts: { request: finished(1), children: { snapshots: new Map([[0, terminating(snapshotOf(READY))]]) } },
    slot: 'free',
  },
  {
    sentence: 'cancels an export whose worker is lost, and says what stays',
    parts: { request: requestOf(CANCEL), stoppingMs: 220_000, children: { job: terminating(jobOf()), pods: [LOST_POD] } },
    slot: 'kept',
    report: 'Cancelled Cancelled',
    words: /^cancelled by spec.cancel; the pod disklift-u-1-0 on the node node-a was deleted and does not end: .* stay until then$/,
  },
  {
    sentence: 'says that a lost worker holds up the next one',
    parts: { children: { job: jobOf(), pods: [LOST_POD] } },
    slot: 'kept',
    report: 'WorkerLost',
    words: /if the node is lost, delete it or give it the taint node.kubernetes.io\/out-of-service/,
  },
  {
    sentence: 'holds no slot for a lost worker of a finished export',
    parts: { request: finished(20), children: { job: terminating(jobOf()), pods: [LOST_POD] } },
    slot: 'free',
  },
  {
    sentence: 'aborts the upload of a lost worker by a Job without volumes',
    parts: { request: finished(20), hasOpenUpload: true, children: { job: terminating(jobOf()), pods: [LOST_POD] } },
    actions: ['ensure-access', 'create jobs disklift-u-1-cleanup'],
    slot: 'kept',
  },
  {
    sentence: 'lets the upload of a lost worker hold up no deletion',
    parts: { isTerminating: true, hasOpenUpload: true, stoppingMs: 220_000, children: { job: terminating(jobOf()), pods: [LOST_POD] } },
    actions: ['ensure-access', 'create jobs disklift-u-1-cleanup'],
    slot: 'kept',
  },
  {
    sentence: 'removes the Job of a worker that does not cancel its export in time',
    parts: { request: requestOf(CANCEL), stoppingMs: 120_000, children: { job: jobOf(), pods: [podOf('Running')] } },
    actions: ['remove jobs disklift-u-1'],
    slot: 'kept',
  },
  {
    sentence: 'removes the Job of a worker that holds up a deletion',
    parts: { isTerminating: true, hasOpenUpload: true, stoppingMs: 120_000, children: { job: jobOf(), pods: [podOf('Running')] } },
    actions: ['remove jobs disklift-u-1'],
    slot: 'kept',
  },
  {
    sentence: 'removes the Job of a finished export whose worker does not end',
    parts: { request: finished(15), children: { job: jobOf(), pods: [podOf('Running')] } },
    actions: ['remove jobs disklift-u-1'],
    slot: 'kept',
  },
  {
    sentence: 'does not remove again what is being removed',
    parts: {
      request: finished(20),
      children: { job: terminating(jobOf()) },
    },
    slot: 'kept',
  },
  { sentence: 'gives the slot back when nothing is left', parts: { request: finished(20) }, slot: 'free' },
  {
    sentence: 'keeps a finished export for its time to live',
    parts: { request: finished(99, { ttlSecondsAfterFinished: 100 }) },
    slot: 'free',
  },
  {
    sentence: 'deletes a finished export after its time to live',
    parts: { request: finished(100, { ttlSecondsAfterFinished: 100 }) },
    actions: ['remove-export'],
    slot: 'free',
  },
  {
    sentence: 'leaves the time to live to a sidecar',
    parts: { request: finished(100, { ttlSecondsAfterFinished: 100 }), isServed: true },
    slot: 'free',
  },
  {
    sentence: 'removes the Job before it aborts an open upload, which needs no volume',
    parts: { request: finished(20), hasOpenUpload: true, children: { job: endedJob('Failed') } },
    actions: ['remove jobs disklift-u-1'],
    slot: 'kept',
  },
  {
    sentence: 'starts a Job that aborts the open upload, and removes the rest',
    parts: { request: finished(20), hasOpenUpload: true, children: { clones: CLONES } },
    actions: ['remove persistentVolumeClaims disklift-u-1-0', 'ensure-access', 'create jobs disklift-u-1-cleanup'],
    slot: 'kept',
  },
  {
    sentence: 'tries again to abort the upload when that Job has failed',
    parts: { request: finished(20), hasOpenUpload: true, children: { cleanupJob: endedJob('Failed', 1, 'disklift-u-1-cleanup') } },
    actions: ['remove jobs disklift-u-1-cleanup'],
    slot: 'kept',
  },
  {
    sentence: 'waits while that Job runs',
    parts: { request: finished(20), hasOpenUpload: true, children: { cleanupJob: jobOf({}, 'disklift-u-1-cleanup') } },
    slot: 'kept',
  },
  {
    sentence: 'leaves the open upload to a sidecar that serves the claim',
    parts: { request: finished(20), hasOpenUpload: true, isServed: true },
    slot: 'free',
  },
  {
    sentence: 'removes the finalizer in a namespace that is being deleted',
    parts: { isTerminating: true, hasOpenUpload: true, isNamespaceTerminating: true, children: { job: jobOf() } },
    actions: ['remove-finalizer'],
    slot: 'kept',
  },
  {
    sentence: 'lets the worker of a deleted export abort its upload',
    parts: { isTerminating: true, hasOpenUpload: true, children: { job: jobOf(), pods: [podOf('Running')] } },
    slot: 'kept',
  },
  {
    sentence: 'starts a Job that aborts the upload of a deleted export',
    parts: { isTerminating: true, hasOpenUpload: true },
    actions: ['ensure-access', 'create jobs disklift-u-1-cleanup'],
    slot: 'kept',
  },
  {
    sentence: 'leaves the objects of a deleted export to the garbage collector',
    parts: { isTerminating: true, children: { job: jobOf(), clones: CLONES } },
    slot: 'kept',
  },
];

function textOf(action: Decision['actions'][number]): string {
  if (action.kind !== 'create' && action.kind !== 'remove') return action.kind;
  return `${action.kind} ${action.resource} ${action.object.metadata.name}`;
}

describe('the decision for one export', () => {
  it('is made again when the time for the source is over, and not a poll later', () => {
    const source = { volumes: [volumeOf({ claim: undefined })] };
    for (const [seconds, recheckMs] of [
      [10, 10_000],
      [597, 3000],
    ] as const)
      assert.equal(reconcile(observedOf({ request: unready(seconds), source }), SETTINGS).recheckMs, recheckMs);
  });

  for (const { sentence, parts, actions = [], slot, report, words, facts } of [...PREPARE, ...FOLLOW, ...END])
    it(sentence, () => {
      const observed = observedOf(parts);
      const before = structuredClone(observed);
      const decision = reconcile(observed, SETTINGS);
      const told = JSON.stringify(decision.report);
      assert.deepEqual(decision.actions.map(textOf), actions, told);
      assert.equal(decision.slot, slot, told);
      const { end, reason } = decision.report ?? {};
      assert.equal(end === undefined ? reason : `${end} ${reason}`, report, told);
      if (words !== undefined) assert.match(decision.report?.message ?? '', words);
      for (const [name, value] of Object.entries(facts ?? {}))
        assert.equal((decision.report as unknown as Record<string, unknown>)[name], value, name);
      assert.deepEqual(reconcile(observed, SETTINGS), decision, 'it is the same for the same observation');
      assert.deepEqual(observed, before, 'it changes nothing');
    });

  it('pins the pod to the node of a claim that only one node may have, and asks for a slot of that node', () => {
    const source = { volumes: [volumeOf({ node: 'node-a' })] };
    assert.equal(reconcile(observedOf({ source, hasSlot: false }), SETTINGS).node, 'node-a');
    assert.equal(reconcile(observedOf({ source }), SETTINGS).node, 'node-a');
    const shared = { volumes: [volumeOf({ node: 'node-a', claim: { ...claimOf(), spec: { accessModes: ['ReadWriteMany'] } } })] };
    assert.equal(reconcile(observedOf({ source: shared, hasSlot: false }), SETTINGS).node, undefined);
    assert.equal(reconcile(observedOf({ ...IN_USE, hasSlot: false }), SETTINGS).node, undefined, 'a clone is on any node');
  });
});
