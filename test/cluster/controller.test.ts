/**
 * The controller on a real API server, with a real controller manager, provisioner and snapshotter. The workers are
 * real processes with the rights of their pods; only scheduler and kubelet are played.
 */

// Runs alone: a dozen programs, and deadlines of the test's own.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { appendFile } from 'node:fs/promises';
import path from 'node:path';
import type { DiskExportStatus } from '../../src/resource/disk-export.ts';
import { until } from '../helpers/until.ts';
import { FAULT_MESSAGE, SNAPSHOT_CLASSES, STORAGE_CLASSES } from './node/storage.ts';
import { useFleet } from './use-fleet.ts';

const CLASSES = '/apis/snapshot.storage.k8s.io/v1/volumesnapshotclasses';
const MERGE = { method: 'PATCH', contentType: 'application/merge-patch+json' } as const;

describe('disklift controller', function () {
  this.timeout(180_000);
  const fleet = useFleet();

  const reasonOf = ({ conditions = [] }: DiskExportStatus) => conditions.find(({ type }) => type === 'Succeeded')?.reason;

  it('exports a claim that nobody has prepared, and leaves nothing behind', async () => {
    const { scenes } = fleet;
    await using _ = fleet.startController();
    const disk = await scenes.claim('root');
    const before = await scenes.objects();
    await scenes.export('first', 'root');
    const status = await scenes.finished('first');
    assert.deepEqual([status.phase, status.consistency, status.snapshotTime], ['Succeeded', 'Offline', undefined], status.message);
    await scenes.assertArrived('first', disk);
    await scenes.assertNothingLeft(before);
  });

  it('exports a claim in use as it was at its snapshot, while a pod goes on to write', async () => {
    const { scenes, runner } = fleet;
    await using _ = fleet.startController();
    const disk = await scenes.claim('root');
    await scenes.writer('root');
    const truth = await scenes.keep(disk, 'truth');
    const before = await scenes.objects();
    runner.hold(true);
    await scenes.export('in-use', 'root');
    // The pod starts only when the snapshot is ready.
    await scenes.status('in-use', (there) => reasonOf(there) === 'Starting');
    await appendFile(disk, 'written after the snapshot');
    runner.hold(false);
    const status = await scenes.finished('in-use');
    assert.deepEqual([status.phase, status.consistency], ['Succeeded', 'Crash'], status.message);
    assert.ok(status.snapshotTime !== undefined);
    await scenes.assertArrived('in-use', truth);
    await scenes.assertNothingLeft(before);
  });

  it('exports a VolumeSnapshot whose claim is gone, by a clone that binds when its pod is scheduled', async () => {
    const { scenes, namespace } = fleet;
    await using _ = fleet.startController();
    const disk = await scenes.claim('root');
    const truth = await scenes.keep(disk, 'truth');
    const snapshotTime = await scenes.snapshot('monday', 'root');
    await namespace.request('persistentvolumeclaims/root', { method: 'DELETE' });
    // The provisioner deletes the volume with its claim.
    await until('the volume is deleted', () => !existsSync(path.dirname(disk)));
    const before = await scenes.objects();
    const snapshot = { mode: 'Always', cloneStorageClassName: STORAGE_CLASSES.waiting };
    await scenes.export('of-snapshot', '', { source: { volumeSnapshot: { name: 'monday' } }, snapshot });
    const status = await scenes.finished('of-snapshot');
    assert.deepEqual([status.phase, status.consistency, status.snapshotTime], ['Succeeded', undefined, snapshotTime], status.message);
    await scenes.assertArrived('of-snapshot', truth);
    await scenes.assertNothingLeft(before);
  });

  it('waits for a VolumeSnapshot that does not exist yet', async () => {
    const { scenes } = fleet;
    await using _ = fleet.startController();
    const disk = await scenes.claim('root');
    await scenes.export('early', '', { source: { volumeSnapshot: { name: 'tuesday' } } });
    const waiting = await scenes.status('early', (status) => reasonOf(status) !== 'Unclaimed');
    assert.deepEqual([reasonOf(waiting), waiting.message], ['SnapshotNotFound', 'there is no VolumeSnapshot tuesday in this namespace']);
    await scenes.snapshot('tuesday', 'root');
    assert.equal((await scenes.finished('early')).phase, 'Succeeded');
    await scenes.assertArrived('early', disk);
  });

  it('fails with the reason of the driver when the snapshot fails, and removes it', async () => {
    const { scenes } = fleet;
    await using _ = fleet.startController();
    await scenes.claim('root');
    const before = await scenes.objects();
    const snapshot = { mode: 'Always', className: SNAPSHOT_CLASSES.fails, timeoutSeconds: 5 };
    await scenes.export('failing', 'root', { snapshot });
    const status = await scenes.finished('failing');
    assert.deepEqual([status.phase, reasonOf(status)], ['Failed', 'SnapshotFailed']);
    assert.match(status.message ?? '', new RegExp(`${FAULT_MESSAGE}.*not ready within 5 seconds`));
    await scenes.assertNothingLeft(before);
  });

  it('fails when the clone gets no volume, and says why', async () => {
    const { scenes } = fleet;
    await using _ = fleet.startController();
    await scenes.claim('root');
    const before = await scenes.objects();
    const snapshot = { mode: 'Always', cloneStorageClassName: STORAGE_CLASSES.restoreFails, timeoutSeconds: 8 };
    await scenes.export('no-clone', 'root', { snapshot });
    const status = await scenes.finished('no-clone');
    assert.deepEqual([status.phase, reasonOf(status)], ['Failed', 'CloneFailed']);
    assert.match(status.message ?? '', new RegExp(`the clone .* has no volume yet: .*${FAULT_MESSAGE}`));
    await scenes.assertNothingLeft(before);
  });

  it('leaves an export alone that a sidecar serves', async () => {
    const { scenes, namespace, runner } = fleet;
    await using controller = fleet.startController();
    const disk = await scenes.claim('root');
    const containers = [
      {
        name: 'disklift',
        image: 'registry.example/disklift',
        args: ['sidecar', '--volume', 'root=/disks/root'],
        volumeMounts: [{ name: 'disk', mountPath: '/disks/root', readOnly: true }],
      },
    ];
    const volumes = [{ name: 'disk', persistentVolumeClaim: { claimName: 'root', readOnly: true } }];
    await scenes.pod('serves', { containers, volumes });
    const flags = ['--allow-destination', '127.0.0.1', '--pod-name', 'serves'];
    await using _sidecar = await namespace.start({ volumes: [`root=${path.dirname(disk)}`], flags });
    const before = await scenes.objects();
    await scenes.export('served', 'root');
    const status = await scenes.finished('served');
    assert.deepEqual([status.phase, status.executor?.podName], ['Succeeded', 'serves'], status.message);
    await scenes.assertArrived('served', disk);
    assert.deepEqual(
      controller.requests.filter(({ verb }) => !['list', 'watch', 'get'].includes(verb)),
      [],
    );
    assert.equal(runner.started.size, 0);
    await scenes.assertNothingLeft(before);
  });

  it('gives the exports of a namespace one account, and removes it with the last of them', async () => {
    const { scenes, s3 } = fleet;
    await using _ = fleet.startController();
    await scenes.claim('one');
    await scenes.claim('two');
    const before = await scenes.objects();
    s3.quirks.push({ operation: 'UploadPart', does: 'hang' });
    await scenes.exportToS3('two', 'two');
    await until('the second export sends', () => s3.count('UploadPart') > 0, 60_000);
    await scenes.export('one', 'one');
    assert.equal((await scenes.finished('one')).phase, 'Succeeded');
    const jobs = async () => (await scenes.objects()).filter((each) => each.startsWith('jobs '));
    await until('the objects of the first export are gone', async () => (await jobs()).length === 1, 60_000);
    const shared = (await scenes.objects()).filter((each) => each.endsWith(' disklift-worker'));
    assert.deepEqual(shared, ['rolebindings disklift-worker', 'serviceaccounts disklift-worker']);
    await scenes.cancel('two');
    assert.equal((await scenes.finished('two')).phase, 'Cancelled');
    await scenes.assertNothingLeft(before);
    assert.equal(s3.store.uploads.size, 0);
  });

  describe('where the only class of snapshots retains them', () => {
    const setDefault = async (name: string, isDefault: boolean) => {
      const annotations = { 'snapshot.storage.kubernetes.io/is-default-class': String(isDefault) };
      assert.equal((await fleet.api.request(`${CLASSES}/${name}`, { ...MERGE, body: { metadata: { annotations } } })).status, 200);
    };

    before(async () => {
      await setDefault(SNAPSHOT_CLASSES.deleted, false);
      await setDefault(SNAPSHOT_CLASSES.retained, true);
    });

    after(async () => {
      await setDefault(SNAPSHOT_CLASSES.retained, false);
      await setDefault(SNAPSHOT_CLASSES.deleted, true);
    });

    it('refuses it, and takes it when the request names it: then only the snapshot stays', async () => {
      const { scenes, storage } = fleet;
      await using _ = fleet.startController();
      const disk = await scenes.claim('root');
      const before = await scenes.objects();
      await scenes.export('refused', 'root', { snapshot: { mode: 'Always' } });
      const refused = await scenes.finished('refused');
      assert.deepEqual([refused.phase, reasonOf(refused)], ['Failed', 'SnapshotClassRetains']);
      assert.match(refused.message ?? '', /csi-retained has deletionPolicy Retain.*name another class in spec\.snapshot\.className/);
      await scenes.assertNothingLeft(before);
      const contents = storage.contents();
      await scenes.export('named', 'root', { snapshot: { mode: 'Always', className: SNAPSHOT_CLASSES.retained } });
      assert.equal((await scenes.finished('named')).phase, 'Succeeded');
      await scenes.assertArrived('named', disk);
      const isNew = (each: string) => !before.includes(each);
      await until('all else is gone', async () => (await scenes.objects()).filter(isNew).length === 2, 60_000);
      assert.equal((await scenes.objects()).filter((each) => isNew(each) && each.startsWith('content ')).length, 1);
      const [kept, ...others] = storage.contents().filter((each) => !contents.includes(each));
      assert.match(kept ?? '', /^snapshot-/);
      assert.deepEqual(others, []);
    });
  });
});
