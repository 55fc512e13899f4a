/**
 * The state of a VirtualMachineBackup, from the fields that virt-controller of KubeVirt writes. Pure.
 *
 * - KubeVirt works on one backup of a VM at a time. It needs the VM to run, with changed block tracking.
 * - In pull mode it starts an export server, and adds the endpoints and ExportReady to the status when that serves.
 * - The backup lasts until someone deletes it, its TTL (2 hours by default) ends, or the guest stops. Done says so, and
 *   its text says why. Newer versions name the end Complete or Failed.
 * - Texts are in the `reason` of conditions, as with snapshots.
 * - The checkpoint that an incremental backup counts from is in no field of it. It is the latest checkpoint of its
 *   tracker, which moves on only when the backup has ended.
 */

import { oneLine } from '../../common/text.ts';
import { objectsAt, textAt, type UncheckedObject, valueAt } from '../virtual-machine/read-fields.ts';

interface BackupVolumeFacts {
  /** Name of the volume in the VM. */
  name: string;
  dataEndpoint: string;
  mapEndpoint: string;
}

export interface ReadyVmBackup {
  state: 'ready';
  name: string;
  uid: string;
  isIncremental: boolean;
  /** The checkpoint that this backup has made. */
  checkpointName: string | undefined;
  /** PEM: authorities that the certificate of the endpoints is checked with. */
  endpointCert: string;
  volumes: readonly BackupVolumeFacts[];
  /** Secret whose entry `token` opens the endpoints. */
  tokenSecretName: string;
  /** The VM, or the tracker that names the VM. */
  source: { kind: 'VirtualMachine' | 'VirtualMachineBackupTracker'; name: string };
  /** True where the request of the backup leaves out the freeze of the guest. */
  isUnfrozen: boolean;
}

export type VmBackupState =
  | ReadyVmBackup
  | { state: 'pending'; reason: string; message: string }
  /** The backup serves nothing, and never will again. */
  | { state: 'over'; reason: string; message: string };

const END_TYPES: readonly string[] = ['Done', 'Complete', 'Failed'];
const ENDING_TYPES: readonly string[] = ['Aborting', 'Deleting'];

const MAKE_ANOTHER = 'create another VirtualMachineBackup, and a DiskExport for it';

export function readVmBackup(backup: UncheckedObject): VmBackupState {
  const { name = '', uid = '', deletionTimestamp } = backup.metadata;
  const what = `the VirtualMachineBackup ${name}`;
  const over = (reason: string, message: string): VmBackupState => ({ state: 'over', reason, message: `${what} ${message}` });
  const pending = (message: string): VmBackupState => ({ state: 'pending', reason: 'BackupPending', message: `${what}: ${message}` });
  const { spec, status } = backup;
  if (textAt(spec, 'mode') !== 'Pull')
    return over(
      'BackupNotPull',
      `is in push mode: KubeVirt writes it to the claim ${textAt(spec, 'pvcName') ?? 'of the backup'}; export that claim with spec.image.layout: Verbatim, or create a backup with mode: Pull`,
    );
  const conditions = objectsAt(status, 'conditions');
  const textOf = (type: string) => {
    const found = conditions.find((each) => each.type === type && each.status === 'True');
    return found === undefined ? undefined : oneLine(textAt(found, 'message') ?? textAt(found, 'reason') ?? type);
  };
  const ends = END_TYPES.flatMap((type) => textOf(type) ?? []);
  if (ends.length > 0) return over('BackupEnded', `has ended: ${ends[0]}; ${MAKE_ANOTHER}`);
  if (deletionTimestamp !== undefined) return over('BackupEnded', `is being deleted; ${MAKE_ANOTHER}`);
  const ending = ENDING_TYPES.flatMap((type) => textOf(type) ?? []);
  if (ending.length > 0) return over('BackupEnded', `is ending: ${ending[0]}; ${MAKE_ANOTHER}`);
  const waiting = textOf('Initializing') ?? textOf('Progressing') ?? 'KubeVirt has not begun with it';
  const endpointCert = textAt(status, 'endpointCert');
  if (textOf('ExportReady') === undefined || endpointCert === undefined) return pending(waiting);
  const volumes = objectsAt(status, 'includedVolumes').map((volume) => ({
    name: textAt(volume, 'volumeName') ?? '',
    dataEndpoint: textAt(volume, 'dataEndpoint') ?? '',
    mapEndpoint: textAt(volume, 'mapEndpoint') ?? '',
  }));
  const incomplete = volumes.find((volume) => Object.values(volume).includes(''));
  if (volumes.length === 0 || incomplete !== undefined)
    return pending(`its status lacks endpoints of ${incomplete?.name || 'its volumes'}`);
  const source = sourceOf(spec);
  if (source === undefined) return over('BackupUnreadable', 'has a source of an unknown kind; use a version of disklift that knows it');
  return {
    state: 'ready',
    name,
    uid,
    // Anything but Incremental is read as a whole disk.
    isIncremental: textAt(status, 'type') === 'Incremental',
    checkpointName: textAt(status, 'checkpointName'),
    endpointCert,
    volumes,
    tokenSecretName: textAt(spec, 'tokenSecretRef') ?? '',
    source,
    isUnfrozen: valueAt(spec, 'skipQuiesce') === true,
  };
}

function sourceOf(spec: unknown): ReadyVmBackup['source'] | undefined {
  const [kind, name] = [textAt(spec, 'source', 'kind'), textAt(spec, 'source', 'name')];
  if (name === undefined || (kind !== 'VirtualMachine' && kind !== 'VirtualMachineBackupTracker')) return undefined;
  return { kind, name };
}
