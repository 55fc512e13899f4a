/** Looks at the source of an export that has no Job yet: claims, classes, VMs and snapshots. */

import type { Clock } from '../common/clock.ts';
import type { DiskExport } from '../resource/disk-export.ts';
import { isApiFailure } from '../stores/kubernetes/client/api-failure.ts';
import { ALL_NAMESPACES } from '../stores/kubernetes/client/contract.ts';
import type { FleetApi } from '../stores/kubernetes/client/fleet-api.ts';
import type {
  ClaimObject,
  StorageClassObject,
  VolumeSnapshotClassObject,
  VolumeSnapshotObject,
} from '../stores/kubernetes/client/fleet-objects.ts';
import { podWriterOf } from '../stores/kubernetes/store/pod-writers.ts';
import type { FleetCache } from './fleet-cache.ts';
import { observeVm } from './observe-vm.ts';
import type { Children, SnapshotClassChoice, SourceFacts, VolumeFacts } from './observed.ts';
import { chooseSnapshotClass } from './snapshot-class.ts';
import { createMetadataLooks } from './snapshot-metadata/observe-metadata.ts';
import { observeBackup } from './virtual-machine-backup/observe-backup.ts';
import type { VolumeLooks } from './volume-looks.ts';

export interface SourceObserver {
  /** @throws DiskliftError of the API server */
  observe(request: DiskExport, children: Children): Promise<SourceFacts>;
}

export interface SourceObserverOptions {
  api: FleetApi;
  cache: Pick<FleetCache, 'usersOf'>;
  clock: Pick<Clock, 'monotonicMs'>;
}

export function createSourceObserver({ api, cache, clock }: SourceObserverOptions): SourceObserver {
  const classes = createClassLooks(api, clock);
  const metadata = createMetadataLooks(api, clock);

  async function withMetadata(request: DiskExport, volume: VolumeFacts, snapshot: VolumeSnapshotObject | undefined): Promise<VolumeFacts> {
    return { ...volume, metadata: await metadata.observe(request, volume, snapshot) };
  }

  const looks: VolumeLooks = {
    api,
    claim: (namespace, name) => api.persistentVolumeClaims.get({ namespace, name }),
    writerOf: (namespace, claimName) => podWriterOf(cache.usersOf(namespace, claimName), claimName, {}),
    async volume(request, key, claimName, mayNeedSnapshot) {
      const { namespace } = request.metadata;
      const claim = await looks.claim(namespace, claimName);
      const writer = looks.writerOf(namespace, claimName);
      const node = cache.usersOf(namespace, claimName).find(isActive)?.spec.nodeName;
      const snapshotClass = claim !== undefined && mayNeedSnapshot(writer) ? await classes.choose(request, claim) : undefined;
      return { key, claimName, claim, writer, node, snapshotClass };
    },
  };

  return {
    async observe(request, children) {
      const { persistentVolumeClaim, volumeSnapshot, virtualMachine, virtualMachineBackup } = request.spec.source;
      if (virtualMachine !== undefined) return observeVm(request, virtualMachine, children, looks);
      if (virtualMachineBackup !== undefined) return observeBackup(request, virtualMachineBackup, api);
      if (volumeSnapshot !== undefined) {
        const facts = await observeSnapshot(request, volumeSnapshot.name, looks);
        return { ...facts, volumes: await Promise.all(facts.volumes.map((volume) => withMetadata(request, volume, volume.given))) };
      }
      const claimName = persistentVolumeClaim?.claimName ?? '';
      const mode = request.spec.snapshot?.mode ?? 'Auto';
      const mayNeedSnapshot = (writer: string | undefined) =>
        children.snapshots.size === 0 &&
        (mode === 'Always' || (mode === 'Auto' && (writer !== undefined || request.spec.incremental?.changes === 'SnapshotMetadata')));
      const volume = await looks.volume(request, claimName, claimName, mayNeedSnapshot);
      return { volumes: [await withMetadata(request, volume, children.snapshots.get(0))] };
    },
  };
}

function isActive({ status }: { status?: { phase?: string } }): boolean {
  return status?.phase !== 'Succeeded' && status?.phase !== 'Failed';
}

async function observeSnapshot({ metadata: { namespace } }: DiskExport, name: string, { api, claim }: VolumeLooks): Promise<SourceFacts> {
  const given = await api.volumeSnapshots.get({ namespace, name });
  const claimName = given?.spec.source.persistentVolumeClaimName;
  const source = claimName === undefined ? undefined : await claim(namespace, claimName);
  const contentName = given?.status?.boundVolumeSnapshotContentName;
  // The claim may be gone; its snapshot knows the mode.
  const content =
    source !== undefined || contentName === undefined
      ? undefined
      : await api.volumeSnapshotContents.get({ namespace: '', name: contentName });
  const givenMode = content?.spec.sourceVolumeMode === 'Block' ? 'Block' : 'Filesystem';
  return {
    volumes: [{ key: name, claimName, claim: source, writer: undefined, node: undefined, given, givenMode, snapshotClass: undefined }],
    ...(given === undefined
      ? { missing: { reason: 'SnapshotNotFound', message: `there is no VolumeSnapshot ${name} in this namespace` } }
      : {}),
  };
}

/** Classes change seldom, and many exports ask for them. */
const CLASSES_MS = 30_000;

function createClassLooks(api: FleetApi, clock: Pick<Clock, 'monotonicMs'>) {
  let last:
    | { atMs: number; storage: readonly StorageClassObject[]; snapshot: readonly VolumeSnapshotClassObject[] | undefined }
    | undefined;

  async function snapshotClasses(): Promise<readonly VolumeSnapshotClassObject[] | undefined> {
    try {
      return (await api.volumeSnapshotClasses.list(ALL_NAMESPACES)).items;
    } catch (error) {
      if (isApiFailure(error, 'NotFound')) return undefined;
      throw error;
    }
  }

  async function look() {
    if (last !== undefined && clock.monotonicMs() - last.atMs < CLASSES_MS) return last;
    const [storage, snapshot] = await Promise.all([api.storageClasses.list(ALL_NAMESPACES), snapshotClasses()]);
    last = { atMs: clock.monotonicMs(), storage: storage.items, snapshot };
    return last;
  }

  return {
    async choose({ spec }: DiskExport, claim: ClaimObject): Promise<SnapshotClassChoice> {
      const { storage, snapshot } = await look();
      const storageClass = storage.find(({ metadata }) => metadata.name === claim.spec.storageClassName);
      return chooseSnapshotClass({ claim, storageClass, classes: snapshot, className: spec.snapshot?.className });
    },
  };
}
