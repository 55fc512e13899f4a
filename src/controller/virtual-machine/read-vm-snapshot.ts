/**
 * The state of a VirtualMachineSnapshot, from the fields that virt-controller of KubeVirt writes.
 *
 * - KubeVirt freezes the guest through its agent, creates one VolumeSnapshot a claim, waits until storage has cut all,
 *   and thaws the guest. Its phase is `Succeeded` from then on. `readyToUse` follows when all can be cloned.
 * - If the guest does not freeze, KubeVirt creates no VolumeSnapshot, and tries again until its deadline.
 * - Messages are in the `reason` of conditions. At the deadline KubeVirt replaces the one that says what it waited for,
 *   so a caller keeps the message of the last pending state.
 * - A claim whose class has no VolumeSnapshotClass is not in the snapshot, which becomes ready all the same.
 */

import { oneLine } from '../../common/text.ts';
import type { Fields } from '../../resource/schema.ts';
import { GUEST_RAN_ANNOTATION } from './build-vm-snapshot.ts';
import { objectsAt, textAt, textMapAt, textsAt, type UncheckedObject, valueAt } from './read-fields.ts';
import { type LeftOutVolume, volumesOfVm } from './volumes-of-vm.ts';

type Consistency = 'Offline' | 'Application' | 'Crash';

/** The claim as it was when the snapshot was taken: what a clone of the same kind requires. */
interface SnapshotClaim {
  name: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  /** A quantity. */
  size: string;
  storageClassName?: string;
  accessModes: string[];
  volumeMode: string;
}

export interface SnapshotVolume {
  /** Name of the volume in the VM. */
  name: string;
  volumeSnapshotName: string;
  claim: SnapshotClaim;
}

interface ReadyVmSnapshot {
  state: 'ready';
  consistency: Consistency;
  /** RFC 3339: when storage cut the first of the volumes. */
  snapshotTime: string;
  volumes: SnapshotVolume[];
  leftOut: LeftOutVolume[];
}

export type VmSnapshotState =
  /** KubeVirt tries again after an error, until its deadline. */
  | { state: 'pending'; message: string; hasError?: boolean }
  | { state: 'failed'; reason: 'SnapshotFailed' | 'VolumesNotInSnapshot'; message: string }
  | ReadyVmSnapshot;

const NOT_IN_SNAPSHOT =
  'is not in the snapshot that KubeVirt took; a storage class without a VolumeSnapshotClass is a cause, and status.volumeSnapshotStatuses of the VM names it';

/** Indications of a snapshot whose guest was frozen. Any other, also one of a later KubeVirt, makes it Crash. */
const FROZEN: ReadonlySet<string> = new Set(['Online', 'GuestAgent', 'PartialSnapshot']);

/**
 * @param content the VirtualMachineSnapshotContent that the status names
 * @param selected volumes that the request names; without it, all
 */
export function readVmSnapshot(
  vmSnapshot: UncheckedObject,
  content: UncheckedObject | undefined,
  selected?: readonly string[],
): VmSnapshotState {
  const { status } = vmSnapshot;
  const phase = textAt(status, 'phase');
  if (vmSnapshot.metadata.deletionTimestamp !== undefined || phase === 'Deleting') return failed('somebody deleted the VM snapshot');
  if (phase === 'Failed') return failed(textOf([reasonOf(status, 'Failure') ?? 'no reason is given', errorOf(status)]));
  if (phase !== 'Succeeded' || valueAt(status, 'readyToUse') !== true) return pending(status);
  if (content === undefined) return { state: 'pending', message: 'the content of the VM snapshot is not there yet' };
  return readContent(vmSnapshot, content, selected);
}

function readContent(vmSnapshot: UncheckedObject, content: UncheckedObject, selected: readonly string[] | undefined): VmSnapshotState {
  const vm = { metadata: {}, ...(valueAt(content.spec, 'source', 'virtualMachine') as object) };
  const { volumes: onClaims, leftOut, unknown } = volumesOfVm(vm, selected);
  const backups = new Map(objectsAt(content.spec, 'volumeBackups').map((backup) => [textAt(backup, 'volumeName'), backup]));
  const volumes: SnapshotVolume[] = [];
  for (const { name, claimName } of onClaims) {
    const backup = backups.get(name);
    const volumeSnapshotName = textAt(backup, 'volumeSnapshotName');
    if (backup === undefined || volumeSnapshotName === undefined) leftOut.push({ name, why: NOT_IN_SNAPSHOT });
    else volumes.push({ name, volumeSnapshotName, claim: claimFacts(backup, claimName) });
  }
  const missing = [...leftOut.map(({ name, why }) => `${name}: ${why}`), ...unknown.map((name) => `${name}: the VM had no such volume`)];
  if (volumes.length === 0 || (selected !== undefined && missing.length > 0))
    return { state: 'failed', reason: 'VolumesNotInSnapshot', message: missing.join('; ') || 'the VM has no volume on a claim' };
  const consistency = consistencyOf(vmSnapshot, vm, volumes);
  return { state: 'ready', consistency, snapshotTime: timeOf(vmSnapshot, content, volumes), volumes, leftOut };
}

function consistencyOf({ metadata, status }: UncheckedObject, vm: UncheckedObject, volumes: readonly SnapshotVolume[]): Consistency {
  // The older field and the newer one: a KubeVirt writes one of them, or both.
  const indications = [
    ...textsAt(status, 'indications'),
    ...objectsAt(status, 'sourceIndications').map((each) => textAt(each, 'indication') ?? ''),
  ];
  const hadGuest = metadata.annotations?.[GUEST_RAN_ANNOTATION] !== 'false';
  if (indications.every((indication) => indication === 'PartialSnapshot')) return hadGuest ? 'Crash' : 'Offline';
  const isFrozen = indications.includes('GuestAgent') && indications.every((indication) => FROZEN.has(indication));
  return isFrozen && !isShared(vm, volumes) ? 'Application' : 'Crash';
}

/** Whether another VM may write to one of the volumes: KubeVirt freezes the guest of this VM only. */
function isShared(vm: UncheckedObject, volumes: readonly SnapshotVolume[]): boolean {
  return objectsAt(vm.spec, 'template', 'spec', 'domain', 'devices', 'disks').some(
    (disk) => disk.shareable === true && volumes.some(({ name }) => name === disk.name),
  );
}

function claimFacts(backup: Fields, claimName: string): SnapshotClaim {
  const spec = valueAt(backup, 'persistentVolumeClaim', 'spec');
  const storageClassName = textAt(spec, 'storageClassName');
  const metadata = valueAt(backup, 'persistentVolumeClaim', 'metadata');
  const labels = textMapAt(metadata, 'labels');
  const annotations = textMapAt(metadata, 'annotations');
  return {
    name: textAt(metadata, 'name') ?? claimName,
    ...(labels !== undefined && { labels }),
    ...(annotations !== undefined && { annotations }),
    size: textAt(spec, 'resources', 'requests', 'storage') ?? '0',
    ...(storageClassName !== undefined && { storageClassName }),
    accessModes: textsAt(spec, 'accessModes'),
    volumeMode: textAt(spec, 'volumeMode') ?? 'Filesystem',
  };
}

function timeOf(vmSnapshot: UncheckedObject, content: UncheckedObject, volumes: readonly SnapshotVolume[]): string {
  const names = new Set(volumes.map(({ volumeSnapshotName }) => volumeSnapshotName));
  const times = objectsAt(content.status, 'volumeSnapshotStatus')
    .filter((each) => names.has(textAt(each, 'volumeSnapshotName') ?? ''))
    .flatMap((each) => textAt(each, 'creationTime') ?? []);
  // KubeVirt notes its own time after the last volume was cut.
  const [first = textAt(content.status, 'creationTime') ?? textAt(vmSnapshot.status, 'creationTime')] = times.toSorted(
    (a, b) => Date.parse(a) - Date.parse(b),
  );
  return first ?? '';
}

function failed(message: string): VmSnapshotState {
  return { state: 'failed', reason: 'SnapshotFailed', message };
}

function pending(status: unknown): VmSnapshotState {
  if (status === undefined) return { state: 'pending', message: 'KubeVirt has not begun the VM snapshot' };
  const error = errorOf(status);
  const isCut = textAt(status, 'phase') === 'Succeeded';
  const message = isCut
    ? textOf(['the VolumeSnapshots are not ready to be cloned', error])
    : textOf([error ?? reasonOf(status, 'Progressing') ?? 'KubeVirt has begun the VM snapshot']);
  return { state: 'pending', message, ...(error !== undefined && { hasError: true }) };
}

function errorOf(status: unknown): string | undefined {
  return textAt(status, 'error', 'message');
}

function reasonOf(status: unknown, type: string): string | undefined {
  const condition = objectsAt(status, 'conditions').find((each) => each.type === type);
  return textAt(condition, 'message') ?? textAt(condition, 'reason');
}

function textOf(parts: readonly (string | undefined)[]): string {
  return oneLine(parts.filter((part) => part !== undefined).join(': '));
}
