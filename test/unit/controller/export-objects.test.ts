import assert from 'node:assert/strict';
import {
  cleanupName,
  cloneOf,
  exportKeyOf,
  exportUidOf,
  indexOfVolumeObject,
  manifestConfigMapOf,
  objectName,
  volumeObjectName,
  volumeSnapshotOf,
  wasTakenFree,
} from '../../../src/controller/export-objects.ts';
import { slimExport, slimMetadata } from '../../../src/controller/slim-objects.ts';

const OWNER = { metadata: { name: 'nightly', namespace: 'vms', uid: '3f6a-1' } };
const OTHER = { metadata: { ...OWNER.metadata, uid: '3f6a' } };

describe('the objects of an export', () => {
  it('have names by its UID, so that each step can be repeated', () => {
    assert.equal(objectName(OWNER), 'disklift-3f6a-1');
    assert.equal(cleanupName(OWNER), 'disklift-3f6a-1-cleanup');
    assert.equal(volumeObjectName(OWNER, 12), 'disklift-3f6a-1-12');
    assert.equal(indexOfVolumeObject(OWNER, 'disklift-3f6a-1-12'), 12);
    for (const name of ['disklift-3f6a-1', 'disklift-3f6a-1-cleanup', 'disklift-3f6a-12-1', 'disklift-3f6a-1-', 'root'])
      assert.equal(indexOfVolumeObject(OWNER, name), undefined, name);
    assert.equal(indexOfVolumeObject(OTHER, 'disklift-3f6a-2-1'), undefined);
  });

  const snapshot = volumeSnapshotOf(OWNER, 0, { claimName: 'root', className: 'fast', isInUse: true });
  const clone = cloneOf(OWNER, 0, { snapshotName: 'disklift-3f6a-1-0', storageClassName: undefined, volumeMode: 'Block', size: '10Gi' });

  for (const object of [snapshot, clone, manifestConfigMapOf(OWNER, 'kind: VirtualMachine\n')])
    it(`are found again by their labels, and deleted with the export: ${object.kind}`, () => {
      assert.equal(exportKeyOf(object.metadata), 'vms/nightly');
      assert.equal(exportUidOf(object.metadata), '3f6a-1');
      assert.deepEqual(object.metadata.ownerReferences, [
        { apiVersion: 'disklift.dev/v1alpha1', kind: 'DiskExport', name: 'nightly', uid: '3f6a-1' },
      ]);
      const { labels, ...others } = object.metadata;
      assert.equal(exportKeyOf({ ...others, labels: { ...labels, 'app.kubernetes.io/managed-by': 'Helm' } }), undefined);
    });

  it('say how the snapshot was requested, and of which claim', () => {
    assert.deepEqual(snapshot.spec, { volumeSnapshotClassName: 'fast', source: { persistentVolumeClaimName: 'root' } });
    assert.equal(wasTakenFree(snapshot.metadata), false);
    assert.equal(wasTakenFree(volumeSnapshotOf(OWNER, 0, { claimName: 'root', className: 'fast', isInUse: false }).metadata), true);
    assert.equal(wasTakenFree({}), false, 'nobody knows of another one');
  });

  it('leave the class of a clone to the API server where the claim has none', () => {
    assert.deepEqual(clone.spec, {
      accessModes: ['ReadWriteOnce'],
      volumeMode: 'Block',
      dataSource: { apiGroup: 'snapshot.storage.k8s.io', kind: 'VolumeSnapshot', name: 'disklift-3f6a-1-0' },
      resources: { requests: { storage: '10Gi' } },
    });
    const given = { snapshotName: 's', storageClassName: 'fast', volumeMode: 'Filesystem', size: '1Gi' } as const;
    assert.partialDeepStrictEqual(cloneOf(OWNER, 0, given).spec, { storageClassName: 'fast' });
  });
});

describe('the cached copy of an object', () => {
  const metadata = {
    ...OWNER.metadata,
    resourceVersion: '7',
    managedFields: [{ manager: 'kubectl' }],
    annotations: { 'kubectl.kubernetes.io/last-applied-configuration': '{}', a: 'b' },
  };

  it('has neither managedFields nor the copy of kubectl', () => {
    assert.deepEqual(slimMetadata({ metadata }).metadata, { ...OWNER.metadata, resourceVersion: '7', annotations: { a: 'b' } });
  });

  it('keeps the status of an export that runs, and of one that has ended its result and open uploads', () => {
    const status = { phase: 'Streaming', message: 'm', disks: [{ path: 'a' }] };
    assert.deepEqual(slimExport({ metadata, status }).status, status);
    const progress = { percent: 3, virtualBytes: 9, imageBytes: 6, sentBytes: 2, skippedBytes: 3, written: '2' };
    const ended = { phase: 'Failed', completionTime: '2026-01-01T00:00:00Z', message: 'm', consistency: 'Crash', progress };
    const open = { path: 'b', upload: { id: '1', partSize: 8, fingerprint: 'f' } };
    const why = { type: 'Succeeded', status: 'False', reason: 'SourceReadError', message: 'm' };
    const conditions = [{ ...why, type: 'Finished' }, why];
    assert.deepEqual(slimExport({ metadata, status: { ...ended, conditions, disks: [{ path: 'a' }] } }).status, {
      ...ended,
      conditions: [why],
    });
    assert.deepEqual(slimExport({ metadata, status: { ...ended, disks: [{ path: 'a' }, open] } }).status, { ...ended, disks: [open] });
    const { message: _, ...succeeded } = { ...ended, phase: 'Succeeded' };
    assert.deepEqual(slimExport({ metadata, status: { ...succeeded, message: 'm', conditions } }).status, succeeded);
  });
});
