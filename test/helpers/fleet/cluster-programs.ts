/**
 * Programs of a cluster for the tests of the controller, in few lines each: garbage collector, namespace and Job
 * controllers, kubelet, CSI snapshotter and provisioner. Each step takes one second. They never fail.
 */

import { type Clock, timestamp } from '../../../src/common/clock.ts';
import type { MemoryFleet, Resource, StoredObject } from './memory-fleet.ts';
import { createVmSnapshots } from './vm-snapshots.ts';
import { runWorker, type WorkerPlan } from './worker-program.ts';

export interface ClusterPlan {
  /** Steps until a snapshot is ready. */
  snapshotSteps: number;
  /** The driver reports this error, and the snapshot is never ready. */
  snapshotError?: string | undefined;
  /** Clones get no volume. */
  neverBinds?: boolean | undefined;
  imageError?: string | undefined;
  /** The plan of each pod of the export's Job, in the order in which they start. The last one repeats. */
  workers: readonly WorkerPlan[];
}

export interface ClusterPrograms {
  step(): void;
  /** Most worker pods of one export that ran at one time. */
  readonly mostWorkers: number;
  /** Most pods of all exports that had not ended. */
  readonly mostPods: number;
}

/** Kinds with objects that have owners. */
const OWNED: readonly Resource[] = [
  'jobs',
  'pods',
  'configMaps',
  'persistentVolumeClaims',
  'volumeSnapshots',
  'virtualMachineSnapshots',
  'virtualMachineSnapshotContents',
  'leases',
];

const OWNERS: readonly Resource[] = ['exports', 'jobs', 'virtualMachineSnapshots', 'virtualMachineSnapshotContents'];

const IN_NAMESPACES: readonly Resource[] = [
  ...OWNED,
  'exports',
  'events',
  'serviceAccounts',
  'roleBindings',
  'virtualMachines',
  'virtualMachineInstances',
];

export function createClusterPrograms(fleet: MemoryFleet, plan: ClusterPlan, clock: Clock): ClusterPrograms {
  return new Programs(fleet, plan, clock);
}

class Programs implements ClusterPrograms {
  mostWorkers = 0;
  mostPods = 0;
  private readonly fleet: MemoryFleet;
  private readonly plan: ClusterPlan;
  private readonly clock: Clock;
  private readonly vmSnapshots: { step(): void };
  /** Steps that each object has seen, by its UID. */
  private readonly ages = new Map<string, number>();
  private startedWorkers = 0;

  constructor(fleet: MemoryFleet, plan: ClusterPlan, clock: Clock) {
    this.clock = clock;
    this.fleet = fleet;
    this.plan = plan;
    this.vmSnapshots = createVmSnapshots(fleet);
  }

  step(): void {
    this.collectGarbage();
    this.emptyNamespaces();
    this.vmSnapshots.step();
    for (const snapshot of this.fleet.all('volumeSnapshots')) this.handleSnapshot(snapshot);
    for (const claim of this.fleet.all('persistentVolumeClaims')) this.handleClaim(claim);
    for (const job of this.fleet.all('jobs')) this.handleJob(job);
    for (const pod of this.fleet.all('pods')) this.handlePod(pod);
    this.countWorkers();
  }

  private countWorkers(): void {
    const uidOf = ({ metadata }: StoredObject) => metadata.labels?.['disklift.dev/export-uid'];
    const workers = this.fleet.all('pods').filter((pod) => uidOf(pod) !== undefined && !hasEnded(pod));
    const running = workers.filter(({ status }) => status?.phase === 'Running');
    this.mostPods = Math.max(this.mostPods, workers.length);
    for (const pod of running) {
      const same = running.filter((other) => uidOf(other) === uidOf(pod));
      this.mostWorkers = Math.max(this.mostWorkers, same.length);
    }
  }

  private age({ metadata: { uid } }: StoredObject): number {
    const age = (this.ages.get(uid) ?? 0) + 1;
    this.ages.set(uid, age);
    return age;
  }

  private collectGarbage(): void {
    const { fleet } = this;
    const uids = new Set(OWNERS.flatMap((kind) => fleet.all(kind)).map(({ metadata }) => metadata.uid));
    for (const kind of OWNED)
      for (const object of fleet.all(kind)) {
        const { ownerReferences = [], deletionTimestamp, finalizers = [] } = object.metadata;
        const isOrphan = ownerReferences.length > 0 && ownerReferences.every(({ uid }) => !uids.has(uid));
        if (isOrphan && deletionTimestamp === undefined) fleet.remove(kind, object);
        if (!finalizers.includes('foregroundDeletion')) continue;
        const dependents = OWNED.flatMap((each) => fleet.all(each).map((owned) => [each, owned] as const)).filter(([, { metadata }]) =>
          metadata.ownerReferences?.some(({ uid }) => uid === object.metadata.uid),
        );
        for (const [each, owned] of dependents) fleet.remove(each, owned);
        if (dependents.length === 0) this.dropFinalizer(kind, object, 'foregroundDeletion');
      }
  }

  private dropFinalizer(kind: Resource, object: StoredObject, finalizer: string): void {
    const finalizers = (object.metadata.finalizers ?? []).filter((each) => each !== finalizer);
    this.fleet.patch(kind, object, { metadata: { finalizers } });
  }

  private emptyNamespaces(): void {
    const { fleet } = this;
    for (const namespace of fleet.all('namespaces')) {
      if (namespace.metadata.deletionTimestamp === undefined) continue;
      const objects = IN_NAMESPACES.flatMap((kind) => fleet.all(kind).map((object) => [kind, object] as const)).filter(
        ([, { metadata }]) => metadata.namespace === namespace.metadata.name,
      );
      for (const [kind, object] of objects) fleet.remove(kind, object);
      if (objects.length === 0) fleet.patch('namespaces', namespace, { metadata: { finalizers: [] } });
    }
  }

  private handleSnapshot(snapshot: StoredObject): void {
    const { fleet, plan } = this;
    const contentName = `content-${snapshot.metadata.uid}`;
    const content = fleet.find('volumeSnapshotContents', { name: contentName });
    if (snapshot.metadata.deletionTimestamp !== undefined) {
      if (content?.spec.deletionPolicy === 'Delete') fleet.remove('volumeSnapshotContents', content);
      this.dropFinalizer('volumeSnapshots', snapshot, SNAPSHOT_FINALIZER);
      return;
    }
    if (snapshot.status?.readyToUse === true) return;
    const { persistentVolumeClaimName: name } = snapshot.spec.source;
    const source = fleet.find('persistentVolumeClaims', { ...snapshot.metadata, name });
    const age = this.age(snapshot);
    if (source === undefined || plan.snapshotError !== undefined) {
      const message = plan.snapshotError ?? `the claim ${name} does not exist`;
      if (age > 1) fleet.patch('volumeSnapshots', snapshot, { status: { readyToUse: false, error: { message } } });
      return;
    }
    if (age === 1) {
      const policy = fleet.find('volumeSnapshotClasses', { name: snapshot.spec.volumeSnapshotClassName })?.deletionPolicy;
      fleet.patch('volumeSnapshots', snapshot, { metadata: { finalizers: [SNAPSHOT_FINALIZER] } });
      fleet.put('volumeSnapshotContents', {
        metadata: { name: contentName },
        spec: { deletionPolicy: policy, sourceVolumeMode: source.spec.volumeMode },
      });
    }
    if (age <= plan.snapshotSteps) return;
    const status = {
      readyToUse: true,
      restoreSize: '10Gi',
      creationTime: '2026-01-01T00:00:05Z',
      boundVolumeSnapshotContentName: contentName,
    };
    fleet.patch('volumeSnapshots', snapshot, { status });
  }

  /** A clone binds when a pod uses it. A claim that a pod uses stays until the pod has ended. */
  private handleClaim(claim: StoredObject): void {
    const { fleet } = this;
    const users = fleet.all('pods').filter((pod) => claimsOf(pod).includes(claim.metadata.name) && !hasEnded(pod));
    if (claim.metadata.deletionTimestamp !== undefined) {
      if (users.length === 0) this.dropFinalizer('persistentVolumeClaims', claim, CLAIM_FINALIZER);
      return;
    }
    if (!claim.metadata.finalizers?.includes(CLAIM_FINALIZER))
      fleet.patch('persistentVolumeClaims', claim, { metadata: { finalizers: [CLAIM_FINALIZER] } });
    if (claim.spec.dataSource === undefined || claim.status?.phase === 'Bound' || users.length === 0) return;
    const snapshot = fleet.find('volumeSnapshots', { ...claim.metadata, name: claim.spec.dataSource.name });
    if (this.plan.neverBinds) {
      if (this.age(claim) === 1) this.warn(claim, 'ProvisioningFailed', 'rpc error: no space left in the pool');
    } else if (snapshot?.status?.readyToUse === true) {
      fleet.patch('persistentVolumeClaims', claim, { status: { phase: 'Bound' }, spec: { volumeName: `pv-${claim.metadata.uid}` } });
    }
  }

  private warn({ metadata: { name, namespace, uid } }: StoredObject, reason: string, message: string): void {
    this.fleet.put('events', {
      metadata: { namespace, name: `event-${uid}-${reason.toLowerCase()}-${this.fleet.created.length}` },
      involvedObject: { name, namespace, uid },
      type: 'Warning',
      reason,
      message,
    });
  }

  private handleJob(job: StoredObject): unknown {
    const { fleet } = this;
    const { name, namespace, uid, deletionTimestamp } = job.metadata;
    if (deletionTimestamp !== undefined || job.status?.conditions !== undefined) return;
    const pods = fleet.all('pods').filter(({ metadata }) => metadata.ownerReferences?.some((owner) => owner.uid === uid));
    const failed = pods.filter(({ status }) => status?.phase === 'Failed');
    const finish = (type: string, message: string) => {
      const condition = { type, status: 'True', message, lastTransitionTime: timestamp(this.clock.nowMs()) };
      fleet.patch('jobs', job, { status: { active: 0, conditions: [condition] } });
    };
    if (job.status?.startTime === undefined) fleet.patch('jobs', job, { status: { startTime: timestamp(this.clock.nowMs()) } });
    if (pods.some(({ status }) => status?.phase === 'Succeeded')) return finish('Complete', 'done');
    if (failed.some((pod) => exitOf(pod) === 3)) return finish('Failed', 'PodFailurePolicy: exit code 3');
    if (failed.length > job.spec.backoffLimit) return finish('Failed', 'BackoffLimitExceeded');
    if (pods.some((pod) => !hasEnded(pod))) return;
    const { serviceAccountName } = job.spec.template.spec;
    if (fleet.find('serviceAccounts', { namespace, name: serviceAccountName }) === undefined) {
      if (this.age(job) % 8 === 1) this.warn(job, 'FailedCreate', `serviceaccount "${serviceAccountName}" not found`);
      return;
    }
    const pod = {
      metadata: {
        ...job.spec.template.metadata,
        name: `${name}-${pods.length}`,
        namespace,
        ownerReferences: [{ apiVersion: 'batch/v1', kind: 'Job', name, uid, controller: true }],
      },
      spec: job.spec.template.spec,
      status: { phase: 'Pending' },
    };
    const exceeded = fleet.quota('pods', pod as unknown as StoredObject);
    if (exceeded !== undefined)
      return this.age(job) === 1 ? this.warn(job, 'FailedCreate', `pods "x" is forbidden: exceeded quota: ${exceeded}`) : undefined;
    if (fleet.find('namespaces', { name: namespace })?.metadata.deletionTimestamp !== undefined) return;
    fleet.put('pods', pod);
    fleet.patch('jobs', job, { status: { active: 1 } });
  }

  private handlePod(pod: StoredObject): unknown {
    const { fleet, plan } = this;
    const isDeleted = pod.metadata.deletionTimestamp !== undefined;
    if (hasEnded(pod)) {
      if (isDeleted) fleet.remove('pods', pod);
      return;
    }
    if (pod.status.phase === 'Running') {
      const age = this.age(pod);
      if (pod.metadata.labels?.['disklift.dev/export-uid'] !== undefined) runWorker(fleet, pod, { age, plan: this.planOf(pod) });
      else if (isDeleted) fleet.patch('pods', pod, { status: { phase: 'Succeeded' } });
      return;
    }
    // The kubelet has started no container yet.
    if (isDeleted) return fleet.patch('pods', pod, { status: { phase: 'Failed' } });
    const isBound = (name: string) => fleet.find('persistentVolumeClaims', { ...pod.metadata, name })?.status?.phase === 'Bound';
    if (!claimsOf(pod).every(isBound)) return;
    const maps = (pod.spec.volumes ?? []).flatMap((volume: StoredObject) => volume.configMap?.name ?? []);
    if (!maps.every((name: string) => fleet.find('configMaps', { ...pod.metadata, name }) !== undefined)) return;
    if (plan.imageError !== undefined) {
      const state = { waiting: { reason: 'ImagePullBackOff', message: plan.imageError } };
      return fleet.patch('pods', pod, { spec: { nodeName: 'node-a' }, status: { containerStatuses: [{ name: 'disklift', state }] } });
    }
    fleet.patch('pods', pod, { spec: { nodeName: 'node-a' }, status: { phase: 'Running' } });
  }

  private readonly plans = new Map<string, WorkerPlan>();

  private planOf({ metadata: { uid } }: StoredObject): WorkerPlan {
    const known = this.plans.get(uid);
    if (known !== undefined) return known;
    const plan = this.plan.workers[Math.min(this.startedWorkers, this.plan.workers.length - 1)] as WorkerPlan;
    this.startedWorkers += 1;
    this.plans.set(uid, plan);
    return plan;
  }
}

const SNAPSHOT_FINALIZER = 'snapshot.storage.kubernetes.io/volumesnapshot-bound-protection';
const CLAIM_FINALIZER = 'kubernetes.io/pvc-protection';

function claimsOf({ spec }: StoredObject): string[] {
  return (spec.volumes ?? []).flatMap((volume: StoredObject) => volume.persistentVolumeClaim?.claimName ?? []);
}

function hasEnded({ status }: StoredObject): boolean {
  return status?.phase === 'Succeeded' || status?.phase === 'Failed';
}

function exitOf({ status }: StoredObject): number | undefined {
  return status?.containerStatuses?.[0]?.state?.terminated?.exitCode;
}
