/** Problems of a source before anything is made of it. Pure. */

import type { ClaimObject, VolumeSnapshotObject } from '../stores/kubernetes/client/fleet-objects.ts';
import type { Observed, PodProblem, SourceFacts, VolumeFacts } from './observed.ts';

export const POLL_MS = 10_000;

export type SourceProblem = { kind: 'wait'; problem: PodProblem; recheckMs: number } | { kind: 'fail'; problem: PodProblem };

/** Whether the export reads a snapshot. An object of an earlier decision keeps that decision. */
export function takesSnapshot({ request, children, source }: Observed): boolean {
  if (children.vmSnapshot !== undefined || children.snapshots.size > 0 || children.clones.size > 0) return true;
  const { snapshot, source: spec } = request.spec;
  if (spec.virtualMachineBackup !== undefined) return false;
  if (spec.volumeSnapshot !== undefined) return true;
  const mode = snapshot?.mode ?? 'Auto';
  if (mode !== 'Auto') return mode === 'Always';
  if (needsSnapshot(request, source)) return true;
  if (source?.vm !== undefined) return source.vm.isRunning;
  return source?.volumes.some(({ writer }) => writer !== undefined) ?? false;
}

/** Whether the request takes its changes from a snapshot, also of a claim that no pod uses. */
function needsSnapshot({ spec }: Observed['request'], source: SourceFacts | undefined): boolean {
  const isBlock = source?.volumes.some(({ claim }) => claim?.spec.volumeMode === 'Block') ?? false;
  return spec.incremental?.changes === 'SnapshotMetadata' && spec.source.persistentVolumeClaim !== undefined && isBlock;
}

/** @returns the node on which the pod must run, and what is wrong with the source before anything is made */
export function sourceProblem(observed: Observed): SourceProblem | undefined {
  const { request, source } = observed;
  if (source === undefined) return undefined;
  if (source.refused !== undefined) return { kind: 'fail', problem: source.refused };
  if (source.missing !== undefined) return { kind: 'wait', problem: source.missing, recheckMs: POLL_MS };
  if (source.backup !== undefined) return undefined;
  if (source.vm?.snapshot?.state === 'pending') return undefined;
  const isOfSnapshot = takesSnapshot(observed);
  for (const volume of source.volumes) {
    const problem = request.spec.source.volumeSnapshot === undefined ? claimProblem(volume) : snapshotProblem(volume.given);
    if (problem !== undefined) return { kind: 'wait', problem, recheckMs: POLL_MS };
  }
  if (source.volumes.length === 0)
    return {
      kind: 'fail',
      problem: { reason: 'NoDisks', message: `the VM has no volume that can be exported${leftOutText(source, '; ')}` },
    };
  if (!isOfSnapshot || source.vm !== undefined) return undefined;
  for (const { snapshotClass, writer, claimName } of source.volumes) {
    if (snapshotClass?.kind === 'refused') return { kind: 'fail', problem: snapshotClass };
    if (snapshotClass?.kind !== 'none') continue;
    const inUse = writer === undefined ? '' : `the claim ${claimName} is in use by ${writer}, and `;
    return { kind: 'fail', problem: { reason: 'SnapshotClassNotFound', message: `${inUse}${snapshotClass.message}` } };
  }
  return undefined;
}

function claimProblem({ claim, claimName }: VolumeFacts): PodProblem | undefined {
  if (claim === undefined) return { reason: 'ClaimNotFound', message: `there is no claim ${claimName} in this namespace` };
  if (claim.metadata.deletionTimestamp !== undefined)
    return { reason: 'ClaimNotFound', message: `the claim ${claimName} is being deleted` };
  if (claim.status?.phase === 'Lost') return { reason: 'ClaimLost', message: `the claim ${claimName} has lost its volume` };
  return undefined;
}

export function leftOutText({ vm }: SourceFacts, prefix = ''): string {
  if (vm === undefined || vm.leftOut.length === 0) return '';
  return `${prefix}not exported: ${vm.leftOut.map(({ name, why }) => `${name} (${why})`).join(', ')}`;
}

export function snapshotProblem(snapshot: VolumeSnapshotObject | undefined): PodProblem | undefined {
  if (snapshot === undefined) return { reason: 'SnapshotNotFound', message: 'there is no such VolumeSnapshot in this namespace' };
  const { name } = snapshot.metadata;
  const error = snapshot.status?.error?.message;
  if (error !== undefined) return { reason: 'SnapshotFailed', message: `the VolumeSnapshot ${name} fails: ${error}` };
  return snapshot.status?.readyToUse === true ? undefined : snapshotPending(snapshot);
}

export function snapshotPending({ metadata }: { metadata: { name: string } }): PodProblem {
  return { reason: 'SnapshotPending', message: `the VolumeSnapshot ${metadata.name} is not ready yet` };
}

/** @returns the node on which a claim is attached that only one node may have */
export function attachedNode(source: SourceFacts | undefined): string | undefined {
  return source?.volumes.find(({ claim, node }) => node !== undefined && isOfOneNode(claim))?.node;
}

/** @returns the node on which the pod must run, where that is known */
export function nodeOf(observed: Observed): string | undefined {
  return takesSnapshot(observed) ? undefined : attachedNode(observed.source);
}

function isOfOneNode(claim: ClaimObject | undefined): boolean {
  return claim?.spec.accessModes?.every((mode) => mode === 'ReadWriteOnce' || mode === 'ReadWriteOncePod') ?? false;
}
