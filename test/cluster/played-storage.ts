/**
 * Plays a storage system and the CSI snapshotter for one namespace: bound claims, and VolumeSnapshots that are cut and
 * become ready when a test says so. The real controller manager binds the claims.
 */

import assert from 'node:assert/strict';
import { until } from '../helpers/until.ts';
import type { KubeVirt } from './kubevirt-cluster.ts';

const SNAPSHOTS = '/apis/snapshot.storage.k8s.io/v1';

export interface PlayedStorage {
  /** Creates a claim and waits until it is bound. */
  claim(name: string, storageClassName: string, further?: object): Promise<void>;
  /** Waits for that many VolumeSnapshots. @returns their names, sorted */
  requested(count: number): Promise<string[]>;
  /** Cuts them, at one second after the other from this time. */
  cut(names: readonly string[], time: string): Promise<void>;
  makeReady(names: readonly string[]): Promise<void>;
}

/** A class whose driver has a VolumeSnapshotClass, and one without. */
export async function createClasses({ send }: KubeVirt): Promise<void> {
  for (const [name, provisioner] of [
    ['with-snapshots', 'snapshots.example.com'],
    ['without-snapshots', 'plain.example.com'],
  ])
    await send('POST', '/apis/storage.k8s.io/v1/storageclasses', { metadata: { name }, provisioner });
  const driver = 'snapshots.example.com';
  const type = { apiVersion: 'snapshot.storage.k8s.io/v1', kind: 'VolumeSnapshotClass' };
  await send('POST', `${SNAPSHOTS}/volumesnapshotclasses`, { ...type, metadata: { name: 'snapshots' }, driver, deletionPolicy: 'Delete' });
}

export function playStorage({ send, patch }: KubeVirt, namespace: string): PlayedStorage {
  const claims = `/api/v1/namespaces/${namespace}/persistentvolumeclaims`;
  const snapshots = `${SNAPSHOTS}/namespaces/${namespace}/volumesnapshots`;

  /** Fails for a request that a snapshotter would refuse. */
  async function assertServable(name: string): Promise<void> {
    const { spec } = await send('GET', `${snapshots}/${name}`);
    const { driver } = await send('GET', `${SNAPSHOTS}/volumesnapshotclasses/${spec.volumeSnapshotClassName}`);
    const claim = await send('GET', `${claims}/${spec.source.persistentVolumeClaimName}`);
    assert.equal(claim.status.phase, 'Bound');
    const { provisioner } = await send('GET', `/apis/storage.k8s.io/v1/storageclasses/${claim.spec.storageClassName}`);
    assert.equal(driver, provisioner);
  }

  return {
    async claim(name, storageClassName, further) {
      const accessModes = ['ReadWriteOnce'];
      const shared = { storageClassName, accessModes, volumeMode: 'Block' };
      await send('POST', '/api/v1/persistentvolumes', {
        metadata: { name: `${namespace}-${name}` },
        spec: {
          ...shared,
          capacity: { storage: '1Gi' },
          local: { path: '/dev/null' },
          nodeAffinity: {
            required: { nodeSelectorTerms: [{ matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In', values: ['n1'] }] }] },
          },
          claimRef: { namespace, name },
        },
      });
      await send('POST', claims, { metadata: { name, ...further }, spec: { ...shared, resources: { requests: { storage: '512Mi' } } } });
      await until(`${name} is bound`, async () => (await send('GET', `${claims}/${name}`)).status.phase === 'Bound');
    },
    async requested(count) {
      let names: string[] = [];
      const list = async () => {
        const { items } = await send('GET', snapshots);
        names = items.map(({ metadata }: { metadata: { name: string } }) => metadata.name).sort();
        return names.length === count;
      };
      await until(`${count} VolumeSnapshots`, list, 40_000);
      return names;
    },
    async cut(names, time) {
      for (const [index, name] of names.entries()) {
        await assertServable(name);
        const creationTime = new Date(Date.parse(time) + 1000 * index).toISOString().replace('.000', '');
        const status = { creationTime, readyToUse: false, restoreSize: '1Gi', boundVolumeSnapshotContentName: `content-${name}` };
        await patch(`${snapshots}/${name}/status`, { status });
      }
    },
    async makeReady(names) {
      for (const name of names) await patch(`${snapshots}/${name}/status`, { status: { readyToUse: true } });
    },
  };
}
