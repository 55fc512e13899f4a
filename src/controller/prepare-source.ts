/**
 * The way of an export to a Job: a snapshot where the source is in use, a clone of it, and the pod's volumes. Each call
 * returns the next step. Pure.
 */

import type { DiskExport } from '../resource/disk-export.ts';
import type { VolumeSnapshotObject } from '../stores/kubernetes/client/fleet-objects.ts';
import type { Action, NewObject, Report } from './decision.ts';
import { childMetadata, cloneOf, manifestConfigMapOf, volumeObjectName, volumeSnapshotOf, wasTakenFree } from './export-objects.ts';
import type { MetadataFacts, Observed, PodProblem, SourceFacts, VolumeFacts } from './observed.ts';
import { larger } from './quantity.ts';
import { trackerMarks } from './snapshot-metadata/kept-snapshots.ts';
import { attachedNode, leftOutText, POLL_MS, snapshotPending, snapshotProblem, sourceProblem, takesSnapshot } from './source-problems.ts';
import { buildVmSnapshot, type VmSnapshotManifest } from './virtual-machine/build-vm-snapshot.ts';
import { type JobTemplate, type WorkerVolume, workerJobOf } from './worker-job.ts';

export type Step =
  /** The source is missing, not ready, or in use. */
  | { kind: 'wait'; problem: PodProblem; actions?: readonly Action[]; recheckMs?: number }
  /** Waiting cannot help. */
  | { kind: 'fail'; problem: PodProblem }
  /** Everything that the pod needs is there, or is requested. */
  | {
      kind: 'run';
      actions: readonly Action[];
      node: string | undefined;
      facts: Pick<Report, 'consistency' | 'snapshotTime' | 'leftOut'>;
      /** The pod has to wait for this. */
      problem?: PodProblem;
    };

/** The CRD's default of spec.snapshot.timeoutSeconds, for a request without spec.snapshot. */
export const DEFAULT_TIMEOUT_SECONDS = 600;

/** @returns the next step of an export that has a slot and no Job */
export function prepareSource(observed: Observed, template: JobTemplate): Step {
  const { source } = observed;
  if (source === undefined) return { kind: 'wait', problem: { reason: 'SourceUnknown', message: 'the source is looked for' } };
  const problem = sourceProblem(observed);
  if (problem !== undefined) return problem;
  if (source.backup !== undefined) return runOfBackup(observed, source, template);
  if (!takesSnapshot(observed)) return runLive(observed, source, template);
  return source.vm === undefined ? runOfSnapshots(observed, source, template) : runOfVmSnapshot(observed, source, template);
}

/** The pod reads the backup's own status, which has its endpoints, and mounts nothing. */
function runOfBackup({ request }: Observed, source: SourceFacts, template: JobTemplate): Step {
  const actions = jobActions(request, { source, volumes: [], worker: 'PointInTime', node: undefined, template });
  const { consistency } = source.backup ?? {};
  return { kind: 'run', node: undefined, actions, facts: consistency === undefined ? {} : { consistency } };
}

function runLive({ request }: Observed, source: SourceFacts, template: JobTemplate): Step {
  const volumes = source.volumes.map(({ key, claimName, claim }) => ({
    key,
    claimName: claimName as string,
    isBlock: claim?.spec.volumeMode === 'Block',
  }));
  const node = attachedNode(source);
  const isFree = source.volumes.every(({ writer }) => writer === undefined);
  return {
    kind: 'run',
    node,
    actions: jobActions(request, { source, volumes, worker: 'Live', node, template }),
    facts: { ...(isFree ? { consistency: 'Offline' } : {}), ...leftOutFact(source) },
  };
}

function leftOutFact(source: SourceFacts): Pick<Report, 'leftOut'> {
  const leftOut = leftOutText(source);
  return leftOut === '' ? {} : { leftOut };
}

interface RunOptions {
  source: SourceFacts;
  volumes: readonly WorkerVolume[];
  worker: 'Live' | 'PointInTime';
  node: string | undefined;
  template: JobTemplate;
}

function jobActions(request: DiskExport, { source, volumes, worker, node, template }: RunOptions): Action[] {
  const manifest = source.vm?.manifest;
  const claimOf = source.volumes.flatMap(({ key, claimName }) =>
    worker === 'Live' && claimName !== undefined && claimName !== key ? [{ key, claimName }] : [],
  );
  const metadata = metadataForWorker(request, source, worker);
  const backupUid = source.backup?.uid;
  const job = workerJobOf(request, { volumes, worker, hasManifest: manifest !== undefined, claimOf, node, template, metadata, backupUid });
  return [
    { kind: 'ensure-access' },
    ...(manifest === undefined
      ? []
      : [{ kind: 'create', resource: 'configMaps', object: manifestConfigMapOf(request, manifest) } as const]),
    { kind: 'create', resource: 'jobs', object: job },
  ];
}

/** Without the service, only an incremental image needs to know why. */
function metadataForWorker({ spec }: DiskExport, source: SourceFacts, worker: RunOptions['worker']): MetadataFacts | undefined {
  const metadata = source.volumes[0]?.metadata;
  if (metadata?.kind === 'service' && metadata.snapshot !== undefined && worker === 'PointInTime') return metadata;
  if (metadata === undefined || spec.incremental === undefined) return undefined;
  return metadata.kind === 'none' ? metadata : { kind: 'none', message: 'the export reads the claim itself, and no snapshot of it' };
}

function vmSnapshotOf(request: DiskExport, { apiVersion, kind, metadata, spec }: VmSnapshotManifest): NewObject {
  const own = childMetadata(request, metadata.name);
  return { apiVersion, kind, spec, metadata: { ...own, annotations: { ...own.annotations, ...metadata.annotations } } };
}

/** One VolumeSnapshot for each volume, of the controller or given, and a clone of each. */
function runOfSnapshots(observed: Observed, source: SourceFacts, template: JobTemplate): Step {
  const { request, children } = observed;
  const missing: Action[] = [];
  for (const [index, { claimName, given, snapshotClass, writer, metadata }] of source.volumes.entries()) {
    if (given !== undefined || children.snapshots.has(index) || snapshotClass?.kind !== 'chosen' || claimName === undefined) continue;
    const tracker = metadata?.kind === 'service' ? trackerMarks(request) : undefined;
    missing.push({
      kind: 'create',
      resource: 'volumeSnapshots',
      object: volumeSnapshotOf(request, index, { claimName, className: snapshotClass.name, isInUse: writer !== undefined, tracker }),
    });
  }
  const [first] = missing;
  if (first?.kind === 'create') return { kind: 'wait', problem: snapshotPending(first.object), actions: missing, recheckMs: POLL_MS };
  const snapshots = source.volumes.map(({ given }, index) => given ?? children.snapshots.get(index));
  for (const snapshot of snapshots) {
    const problem = snapshotProblem(snapshot);
    if (problem !== undefined) return { kind: 'wait', problem, recheckMs: POLL_MS };
  }
  const times = snapshots.flatMap((snapshot) => snapshot?.status?.creationTime ?? []);
  const isOfRequest = request.spec.source.volumeSnapshot !== undefined;
  // The guest may have stopped after the snapshot was taken.
  const wasFree = source.volumes.every(
    ({ writer }, index) => writer === undefined && wasTakenFree(children.snapshots.get(index)?.metadata ?? {}),
  );
  return runOfClones(observed, source, template, {
    snapshots: snapshots as VolumeSnapshotObject[],
    facts: {
      // Nobody knows how a snapshot was taken that others made.
      ...(isOfRequest ? {} : { consistency: wasFree ? 'Offline' : 'Crash' }),
      ...snapshotTimeOf(times),
    },
  });
}

function snapshotTimeOf(times: readonly string[]): Pick<Report, 'snapshotTime'> {
  // The images show the moment at which the last snapshot was taken, or an earlier one.
  const [last] = times.toSorted().reverse();
  return last === undefined ? {} : { snapshotTime: last };
}

function runOfVmSnapshot(observed: Observed, source: SourceFacts, template: JobTemplate): Step {
  const { request, children } = observed;
  if (children.vmSnapshot === undefined) {
    const vmName = request.spec.source.virtualMachine?.name ?? '';
    const timeoutSeconds = request.spec.snapshot?.timeoutSeconds ?? DEFAULT_TIMEOUT_SECONDS;
    const isRunning = source.vm?.isRunning ?? false;
    const object = vmSnapshotOf(request, buildVmSnapshot({ export: request, vmName, timeoutSeconds, isRunning }));
    return waitFor('SnapshotPending', 'KubeVirt takes a snapshot of the VM', [
      { kind: 'create', resource: 'virtualMachineSnapshots', object },
    ]);
  }
  const state = source.vm?.snapshot;
  if (state === undefined || state.state === 'pending')
    return waitFor(state?.hasError ? 'SnapshotFailed' : 'SnapshotPending', state?.message ?? 'KubeVirt takes a snapshot of the VM', []);
  if (state.state === 'failed')
    return { kind: 'fail', problem: { ...state, message: `${state.message}${lastWait(request, state.message)}` } };
  const snapshots: VolumeSnapshotObject[] = [];
  for (const { given, key } of source.volumes) {
    const problem = snapshotProblem(given);
    if (problem !== undefined || given === undefined)
      return { kind: 'wait', problem: { ...(problem as PodProblem), message: `${key}: ${problem?.message}` }, recheckMs: POLL_MS };
    snapshots.push(given);
  }
  return runOfClones(observed, source, template, {
    snapshots,
    facts: { consistency: state.consistency, ...snapshotTimeOf(state.snapshotTime === undefined ? [] : [state.snapshotTime]) },
  });
}

/** At its deadline KubeVirt replaces the message that says what it waited for. */
function lastWait({ status }: DiskExport, now: string): string {
  const { reason, message = '' } = status?.conditions?.find(({ type }) => type === 'SourceReady') ?? {};
  const isNews = (reason === 'SnapshotPending' || reason === 'SnapshotFailed') && !now.includes(message);
  return isNews ? `; before that: ${message}` : '';
}

interface SnapshotsTaken {
  snapshots: readonly VolumeSnapshotObject[];
  facts: Pick<Report, 'consistency' | 'snapshotTime'>;
}

/** A clone that waits for its first consumer binds when the Job's pod exists, so the Job does not wait for clones. */
function runOfClones(observed: Observed, source: SourceFacts, template: JobTemplate, { snapshots, facts }: SnapshotsTaken): Step {
  const { request, children } = observed;
  const missing: Action[] = [];
  for (const [index, volume] of source.volumes.entries()) {
    if (children.clones.has(index)) continue;
    const snapshot = snapshots[index] as VolumeSnapshotObject;
    missing.push({
      kind: 'create',
      resource: 'persistentVolumeClaims',
      object: cloneOf(request, index, {
        snapshotName: snapshot.metadata.name,
        storageClassName: request.spec.snapshot?.cloneStorageClassName ?? volume.claim?.spec.storageClassName,
        volumeMode: modeOf(volume),
        size: sizeOf(volume, snapshot),
      }),
    });
  }
  const volumes = source.volumes.map((volume, index) => ({
    key: volume.key,
    claimName: volumeObjectName(request, index),
    isBlock: modeOf(volume) === 'Block',
  }));
  return {
    kind: 'run',
    node: undefined,
    actions: [...missing, ...jobActions(request, { source, volumes, worker: 'PointInTime', node: undefined, template })],
    facts: { ...facts, ...leftOutFact(source) },
    ...clonePending(observed),
  };
}

/** A volume may have got more than its claim requests. */
function sizeOf({ claim }: VolumeFacts, { status }: VolumeSnapshotObject): string {
  const ofClaim = larger(claim?.spec.resources?.requests?.storage, claim?.status?.capacity?.storage);
  return larger(ofClaim, status?.restoreSize) ?? '1Gi';
}

function modeOf({ claim, givenMode }: VolumeFacts): 'Block' | 'Filesystem' {
  return (claim?.spec.volumeMode ?? givenMode) === 'Block' ? 'Block' : 'Filesystem';
}

function waitFor(reason: string, message: string, actions: readonly Action[]): Step {
  return { kind: 'wait', problem: { reason, message }, actions, recheckMs: POLL_MS };
}

/** Whether clones keep the pod from starting. */
export function cloneProblem({ children }: Pick<Observed, 'children'>): PodProblem | undefined {
  for (const [, { metadata, status }] of [...children.clones].toSorted(([a], [b]) => a - b)) {
    if (status?.phase === 'Lost') return { reason: 'CloneFailed', message: `the clone ${metadata.name} has lost its volume` };
    if (status?.phase !== 'Bound') return unboundClone(metadata.name);
  }
  return undefined;
}

function unboundClone(name: string): PodProblem {
  return { reason: 'ClonePending', message: `the clone ${name} of the snapshot has no volume yet` };
}

/** The first clone is unbound unless it was made by an earlier decision. */
function clonePending({ request, children }: Observed): { problem?: PodProblem } {
  const problem = children.clones.has(0) ? cloneProblem({ children }) : unboundClone(volumeObjectName(request, 0));
  return problem === undefined ? {} : { problem };
}
