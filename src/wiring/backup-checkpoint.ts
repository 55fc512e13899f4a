/**
 * The checkpoints of a KubeVirt backup: the one that it has made, and the one that its changes count from. KubeVirt
 * writes the second one nowhere. When a backup begins, KubeVirt takes the latest checkpoint of its tracker. When the
 * backup has ended, KubeVirt moves the tracker to the checkpoint of that backup. One VM has one backup at a time. A
 * tracker that is read after its backup was seen to be ready therefore shows one of the two.
 *
 * KubeVirt names the bitmap of a volume after the volume. It goes on with that bitmap where the volume has another
 * claim since the VM was stopped, as after a restore. Such a bitmap misses what differs between the two claims.
 */

import { DiskliftError } from '../common/errors.ts';
import { textAt } from '../controller/virtual-machine/read-fields.ts';
import { claimOfVolume } from '../controller/virtual-machine/volumes-of-vm.ts';
import type { ReadyVmBackup } from '../controller/virtual-machine-backup/read-vm-backup.ts';
import type { BaseImage } from '../receipts/contract.ts';
import type { ReceiptPoints } from '../receipts/receipt.ts';
import type { KubeApi } from '../stores/kubernetes/client/contract.ts';

export type BackupApi = Pick<KubeApi, 'virtualMachineBackups' | 'virtualMachineBackupTrackers' | 'virtualMachines'>;

interface BackupInCluster {
  backups: BackupApi;
  namespace: string;
  /** Read before this is called, and ready then. */
  backup: ReadyVmBackup;
  /** Name of the volume in the VM. */
  volume: string;
  signal: AbortSignal;
}

/** @throws DiskliftError `ChangesMissing` where the backup's changes do not count from the base */
export async function requireCheckpoint(inCluster: BackupInCluster, { points, location }: Pick<BaseImage, 'points' | 'location'>) {
  const { backup, volume } = inCluster;
  const missing = (why: string) => new DiskliftError('ChangesMissing', `the VirtualMachineBackup ${backup.name} ${why}`);
  if (!backup.isIncremental)
    throw missing('is a full one; an incremental one needs a VirtualMachineBackupTracker as its source, which has a checkpoint already');
  const { checkpoint } = points;
  if (checkpoint === undefined) throw missing(`is incremental, and the receipt of the base ${location} names no checkpoint`);
  const tracker = await readTracker(inCluster);
  const countedFrom = textAt(tracker?.status, 'latestCheckpoint', 'name');
  if (countedFrom === undefined || countedFrom === backup.checkpointName)
    throw missing('does not show any more from which checkpoint its changes count');
  if (countedFrom !== checkpoint.name)
    throw missing(`has the changes since the checkpoint ${countedFrom}, and the base ${location} is of ${checkpoint.name}`);
  const { uid, claim } = await readVm(inCluster, checkpoint.vm);
  if (textAt(tracker?.spec, 'source', 'name') !== checkpoint.vm || uid !== checkpoint.vmUid)
    throw missing(`is of another VM than the base ${location}, which is of ${checkpoint.vm}`);
  if (claim !== checkpoint.claim)
    throw missing(`has the volume ${volume} of ${nameOf(claim)}, and the base ${location} is of ${nameOf(checkpoint.claim)}`);
}

/** @returns no checkpoint for a backup without a tracker: no later backup can count from it */
export async function checkpointMade(inCluster: BackupInCluster): Promise<ReceiptPoints> {
  const { checkpointName: name } = inCluster.backup;
  const tracker = name === undefined ? undefined : await readTracker(inCluster);
  const vm = textAt(tracker?.spec, 'source', 'name');
  const { uid: vmUid, claim } = vm === undefined ? {} : await readVm(inCluster, vm);
  if (name === undefined || vm === undefined || vmUid === undefined) return {};
  return { checkpoint: { vm, vmUid, name, ...(claim === undefined ? {} : { claim }) } };
}

async function readTracker({ backups, namespace, backup: { source }, signal }: BackupInCluster) {
  if (source.kind !== 'VirtualMachineBackupTracker') return undefined;
  return backups.virtualMachineBackupTrackers.get({ namespace, name: source.name }, { signal });
}

async function readVm({ backups, namespace, volume, signal }: BackupInCluster, name: string): Promise<{ uid?: string; claim?: string }> {
  const vm = await backups.virtualMachines.get({ namespace, name }, { signal });
  if (vm === undefined) return {};
  const claim = claimOfVolume(vm, volume);
  return { uid: vm.metadata.uid, ...(claim === undefined ? {} : { claim }) };
}

function nameOf(claim: string | undefined): string {
  return claim === undefined ? 'no claim' : `the claim ${claim}`;
}
