/** Looks at a VM: its volumes, whether its guest may write, and KubeVirt's snapshot of it. */

import type { DiskExport } from '../resource/disk-export.ts';
import { takesOtherFiles } from '../resource/source-kinds.ts';
import type { ClaimObject } from '../stores/kubernetes/client/fleet-objects.ts';
import type { Children, SourceFacts, VolumeFacts } from './observed.ts';
import { larger } from './quantity.ts';
import { isRunning } from './virtual-machine/is-running.ts';
import { readVmSnapshot, type SnapshotVolume, type VmSnapshotState } from './virtual-machine/read-vm-snapshot.ts';
import { renderVmManifest } from './virtual-machine/vm-manifest.ts';
import { volumesOfVm } from './virtual-machine/volumes-of-vm.ts';
import type { VolumeLooks } from './volume-looks.ts';

type VmSource = NonNullable<DiskExport['spec']['source']['virtualMachine']>;

export async function observeVm(request: DiskExport, source: VmSource, children: Children, looks: VolumeLooks): Promise<SourceFacts> {
  const { namespace } = request.metadata;
  const target = { namespace, name: source.name };
  const snapshot = children.vmSnapshot === undefined ? undefined : await observeVmSnapshot(children.vmSnapshot, source, looks);
  // While KubeVirt works on it, nothing depends on the VM.
  if (snapshot?.state === 'pending') return { volumes: [], vm: { isRunning: true, leftOut: [], snapshot, manifest: undefined } };
  const vm = await looks.api.virtualMachines.get(target);
  if (vm === undefined)
    return {
      volumes: [],
      missing: { reason: 'VirtualMachineNotFound', message: `there is no VirtualMachine ${source.name} in this namespace` },
    };
  const vmi = await looks.api.virtualMachineInstances.get(target);
  const found = volumesOfVm(vm, source.volumes, vmi);
  const refused = refusedOf(found, source);
  const volumes =
    snapshot?.state === 'ready'
      ? await Promise.all(snapshot.volumes.map((volume) => snapshotVolume(namespace, volume, looks)))
      : await Promise.all(found.volumes.map(({ name, claimName }) => looks.volume(request, name, claimName, () => false)));
  const claims = volumes.flatMap(({ claim }) => claim ?? []);
  return {
    volumes,
    ...(refused === undefined ? {} : { refused }),
    vm: {
      isRunning: isRunning(vm, vmi),
      leftOut: snapshot?.state === 'ready' ? snapshot.leftOut : found.leftOut,
      snapshot,
      manifest: (source.manifest ?? takesOtherFiles(request.spec.destination)) ? renderVmManifest(vm, claims) : undefined,
    },
  };
}

function refusedOf({ unknown, leftOut }: ReturnType<typeof volumesOfVm>, { name, volumes }: VmSource): SourceFacts['refused'] {
  if (unknown.length > 0) return { reason: 'VolumeNotFound', message: `the VM ${name} has no volume ${unknown.join(', ')}` };
  const [first] = volumes === undefined ? [] : leftOut;
  return first === undefined ? undefined : { reason: 'VolumeNotExportable', message: `the volume ${first.name} ${first.why}` };
}

async function observeVmSnapshot(
  vmSnapshot: NonNullable<Children['vmSnapshot']>,
  { volumes }: VmSource,
  { api }: VolumeLooks,
): Promise<VmSnapshotState> {
  const { namespace } = vmSnapshot.metadata;
  const contentName = vmSnapshot.status?.virtualMachineSnapshotContentName;
  const content =
    typeof contentName === 'string' ? await api.virtualMachineSnapshotContents.get({ namespace, name: contentName }) : undefined;
  return readVmSnapshot(vmSnapshot, content, volumes);
}

/** The claim as it was at the snapshot decides about the clone: the present one may have grown, or may be gone. */
async function snapshotVolume(
  namespace: string,
  { name, volumeSnapshotName, claim }: SnapshotVolume,
  { api }: VolumeLooks,
): Promise<VolumeFacts> {
  const given = await api.volumeSnapshots.get({ namespace, name: volumeSnapshotName });
  const { size, storageClassName, accessModes, volumeMode, labels, annotations } = claim;
  const storage = larger(size, given?.status?.restoreSize);
  const then: ClaimObject = {
    metadata: {
      name: claim.name,
      namespace,
      uid: '',
      resourceVersion: '',
      ...(labels === undefined ? {} : { labels }),
      ...(annotations === undefined ? {} : { annotations }),
    },
    spec: {
      accessModes,
      volumeMode,
      ...(storageClassName === undefined ? {} : { storageClassName }),
      resources: { requests: { storage: size } },
    },
    // The volume may have got more than the claim requested.
    status: storage === undefined ? {} : { capacity: { storage } },
  };
  return { key: name, claimName: claim.name, claim: then, writer: undefined, node: undefined, given, snapshotClass: undefined };
}
