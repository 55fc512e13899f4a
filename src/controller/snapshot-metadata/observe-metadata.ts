/** Looks for the SnapshotMetadata service of a CSI driver, and for the snapshot as the driver knows it. */

import type { Clock } from '../../common/clock.ts';
import type { DiskExport } from '../../resource/disk-export.ts';
import { isApiFailure } from '../../stores/kubernetes/client/api-failure.ts';
import type { FleetApi } from '../../stores/kubernetes/client/fleet-api.ts';
import type { SnapshotMetadataServiceObject, VolumeSnapshotObject } from '../../stores/kubernetes/client/fleet-objects.ts';
import type { MetadataFacts, VolumeFacts } from '../observed.ts';

export interface MetadataLooks {
  /**
   * @param snapshot of the volume, once there is one
   * @returns undefined for an export that makes no use of the service
   * @throws DiskliftError of the API server
   */
  observe(request: DiskExport, volume: VolumeFacts, snapshot: VolumeSnapshotObject | undefined): Promise<MetadataFacts | undefined>;
}

/** Services change seldom, and many exports ask for them. */
const SERVICES_MS = 30_000;

/** An environment variable has at most 128 KiB. */
const MAX_CERTIFICATE_BYTES = 65_536;

interface CachedService {
  atMs: number;
  found: SnapshotMetadataServiceObject | undefined;
}

export function createMetadataLooks(
  api: Pick<FleetApi, 'snapshotMetadataServices' | 'volumeSnapshotContents'>,
  clock: Pick<Clock, 'monotonicMs'>,
): MetadataLooks {
  const services = new Map<string, CachedService>();

  async function serviceOf(driver: string): Promise<SnapshotMetadataServiceObject | undefined> {
    const cached = services.get(driver);
    if (cached !== undefined && clock.monotonicMs() - cached.atMs < SERVICES_MS) return cached.found;
    const found = await unlessMissing(api.snapshotMetadataServices.get({ namespace: '', name: driver }));
    services.set(driver, { atMs: clock.monotonicMs(), found });
    return found;
  }

  return {
    async observe(request, volume, snapshot) {
      if (!mayUseMetadata(request)) return undefined;
      const mode = volume.claim?.spec.volumeMode ?? volume.givenMode;
      if (mode !== 'Block')
        return { kind: 'none', message: 'the SnapshotMetadata service compares Block volumes, and this one has a file system' };
      const contentName = snapshot?.status?.boundVolumeSnapshotContentName;
      const content = contentName === undefined ? undefined : await api.volumeSnapshotContents.get({ namespace: '', name: contentName });
      const ofClass = volume.snapshotClass?.kind === 'chosen' ? volume.snapshotClass.driver : undefined;
      const driver = content?.spec.driver ?? ofClass;
      if (driver === undefined) return { kind: 'none', message: 'the export has no snapshot whose CSI driver is known' };
      const service = await serviceOf(driver);
      if (service === undefined) return { kind: 'none', message: `the cluster has no SnapshotMetadataService ${driver}` };
      const { address, audience, caCert = '' } = service.spec;
      if (caCert.length > MAX_CERTIFICATE_BYTES)
        return {
          kind: 'none',
          message: `the caCert of the SnapshotMetadataService ${driver} is larger than ${MAX_CERTIFICATE_BYTES} bytes`,
        };
      const handle = content?.status?.snapshotHandle;
      const found = { kind: 'service', driver, address, audience, caCert } as const;
      if (snapshot === undefined || handle === undefined) return { ...found, snapshot: undefined };
      const volumeHandle = content?.spec.source?.volumeHandle;
      const ofVolume = volumeHandle === undefined ? {} : { volume: volumeHandle };
      return { ...found, snapshot: { name: snapshot.metadata.name, handle, ...ofVolume } };
    },
  };
}

/** Block hashes need no snapshot, and a backup of KubeVirt has a map of its own. */
function mayUseMetadata({ spec: { source, incremental } }: DiskExport): boolean {
  const isOfVolume = source.persistentVolumeClaim !== undefined || source.volumeSnapshot !== undefined;
  return isOfVolume && incremental?.changes !== 'BlockHashes';
}

/** The API server answers 404 also where the CRD is missing. */
async function unlessMissing<T>(call: Promise<T | undefined>): Promise<T | undefined> {
  try {
    return await call;
  } catch (error) {
    if (isApiFailure(error, 'NotFound')) return undefined;
    throw error;
  }
}
