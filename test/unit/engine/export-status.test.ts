import assert from 'node:assert/strict';
import { DiskliftError } from '../../../src/common/errors.ts';
import { restoreDiskState } from '../../../src/engine/disk-status.ts';
import { type ExportFacts, exportStatusOf } from '../../../src/engine/export-status.ts';
import { type DiskState, newDiskState } from '../../../src/engine/observer.ts';
import type { DiskExport, DiskExportStatus } from '../../../src/resource/disk-export.ts';
import { DEFAULT_OPTIONS } from '../../helpers/image-in-process.ts';

const CLUSTER = 65_536;
const SHA256 = 'ab'.repeat(32);
const START_MS = Date.UTC(2026, 10, 24, 12);

const request = {
  metadata: { name: 'nightly', namespace: 'vms', uid: 'u', generation: 3 },
  spec: { source: { persistentVolumeClaim: { claimName: 'root' } }, destination: { s3: { bucket: 'backups', key: '{disk}' } } },
} as unknown as DiskExport;

function disk(changes: Partial<DiskState> = {}): DiskState {
  return { ...newDiskState({ path: 'a.img', qcow2: DEFAULT_OPTIONS }), ...changes };
}

/** 100 clusters: 40 of data, 10 of zeros, 50 holes; 5 clusters of metadata. */
const scanned: Partial<DiskState> = {
  attempts: 1,
  virtualBytes: 100 * CLUSTER,
  scannedBytes: 100 * CLUSTER,
  readBytes: 0,
  imageBytes: 45 * CLUSTER,
  metadataBytes: 5 * CLUSTER,
  clusters: { total: 100, data: 40, zero: 10, hole: 50 },
};

const arrived: Partial<DiskState> = {
  ...scanned,
  phase: 'Succeeded',
  sentBytes: 45 * CLUSTER,
  receipt: { location: 's3://backups/a', sizeBytes: 45 * CLUSTER, etag: '"e"', sha256: SHA256, proof: 'etag' },
};

function statusOf(disks: DiskState[] | undefined, more: Partial<ExportFacts> = {}, previous?: DiskExportStatus): DiskExportStatus {
  return exportStatusOf({ request, disks, startMs: START_MS, nowMs: START_MS + 5000, ...more }, previous);
}

const conditionOf = ({ conditions = [] }: DiskExportStatus, type: string) => {
  const { status, reason } = conditions.find((condition) => condition.type === type) ?? assert.fail(`no ${type}`);
  return [status, reason];
};

describe('export status', () => {
  it('says that the pod was stopped and which pod goes on, when the process ends before the export', () => {
    const failure = new DiskliftError('ExecutorLost', 'the executor was stopped');
    for (const disks of [undefined, [disk({ ...scanned, phase: 'Pending', failure })]]) {
      const status = statusOf(disks, { end: { phase: 'Pending', failure }, executor: { podName: 'nightly-x' } });
      assert.match(status.message ?? '', /^the pod nightly-x, which ran this export, was stopped; the next pod .* unless it is suspended/);
      assert.deepEqual([status.phase, status.completionTime], ['Pending', undefined]);
      assert.deepEqual(conditionOf(status, 'Succeeded'), ['Unknown', 'Unclaimed']);
      assert.deepEqual(conditionOf(status, 'Finished'), ['False', 'Unclaimed']);
      assert.deepEqual(conditionOf(status, 'Progressing'), ['False', 'Unclaimed']);
      assert.deepEqual(conditionOf(statusOf(disks === undefined ? disks : [disk(scanned)], {}, status), 'Progressing')[0], 'True');
    }
    assert.match(
      statusOf(undefined, { end: { phase: 'Pending', failure } }).message ?? '',
      /^the process that ran this export was stopped/,
    );
  });

  it('names files that may be disks and are left out, during the run and after success', () => {
    const leftOut = Array.from({ length: 12 }, (_, index) => `${index}.ova is an archive`);
    const shown = `${leftOut.slice(0, 10).join('; ')}; and 2 more`;
    for (const status of [statusOf(undefined, { leftOut }), statusOf([disk(arrived)], { leftOut, end: { phase: 'Succeeded' } })]) {
      assert.deepEqual(conditionOf(status, 'DisksLeftOut'), ['True', 'NotNamed']);
      assert.equal(status.conditions?.find(({ type }) => type === 'DisksLeftOut')?.message, shown);
    }
    assert.match(
      statusOf([disk(arrived)], { leftOut, end: { phase: 'Succeeded' } }).message ?? '',
      /^1 disk has arrived, .*; left out: 0\.ova/,
    );
    assert.equal(statusOf([disk(arrived)], { end: { phase: 'Succeeded' } }).conditions?.length, 4);
  });

  it('tells that an export is claimed before anything is known of its disks', () => {
    const status = statusOf(undefined);
    assert.deepEqual([status.phase, status.destination, status.observedGeneration], ['Pending', 'S3', 3]);
    assert.deepEqual(conditionOf(status, 'Succeeded'), ['Unknown', 'Claimed']);
    assert.deepEqual(conditionOf(status, 'Finished'), ['False', 'Claimed']);
    assert.deepEqual(conditionOf(status, 'Progressing'), ['True', 'Claimed']);
    assert.deepEqual(conditionOf(status, 'SourceReady'), ['Unknown', 'Scanning']);
    assert.equal(status.startTime, '2026-11-24T12:00:00Z');
    assert.equal(status.completionTime, undefined);
  });

  it('keeps what the controller has written before any process ran: the snapshot, its conditions and the start', () => {
    const leftOut = { type: 'VolumesLeftOut', status: 'True', reason: 'NotExportable', message: 'cd: is a containerDisk' } as const;
    const snapshot = { consistency: 'Application', snapshotTime: '2026-11-24T11:59:00Z' } as const;
    let status: DiskExportStatus = { ...snapshot, startTime: '2026-11-24T11:58:00Z', conditions: [leftOut] };
    for (const facts of [{}, { disks: [disk(scanned)] }, { disks: [disk(arrived)], end: { phase: 'Succeeded' as const } }]) {
      status = exportStatusOf(
        { request, startMs: Date.parse('2026-11-24T11:58:00Z'), nowMs: START_MS, disks: undefined, ...facts },
        status,
      );
      assert.partialDeepStrictEqual(status, { ...snapshot, startTime: '2026-11-24T11:58:00Z' });
      assert.deepEqual(
        status.conditions?.find(({ type }) => type === 'VolumesLeftOut'),
        leftOut,
      );
    }
    assert.equal(status.unfinishedRuns, undefined, 'no run was lost');
    assert.equal(status.duration, '2m');
  });

  it('does not count vm.yaml as a disk', () => {
    const machine = { ...request, spec: { ...request.spec, source: { virtualMachine: { name: 'fedora' } } } } as unknown as DiskExport;
    const disks = [disk(arrived), disk({ ...arrived, path: 'vm.yaml' })];
    const end = { phase: 'Succeeded' } as const;
    assert.match(statusOf(disks, { request: machine, end }).message ?? '', /^1 disk and vm\.yaml have arrived, /);
    assert.match(statusOf(disks, { end }).message ?? '', /^2 disks have arrived, /);
  });

  it('keeps what an earlier process has told of the disks until they are looked for, and when they cannot be found', () => {
    const upload = { id: 'x', partSizeBytes: 16_777_216, fingerprint: 'f' };
    const earlier = statusOf([disk({ ...scanned, phase: 'Streaming', upload })]);
    for (const end of [undefined, { phase: 'Failed' as const, failure: new DiskliftError('SourceNotFound', 'gone') }]) {
      const status = statusOf(undefined, { end }, earlier);
      assert.deepEqual([status.disks, status.progress, status.attempts], [earlier.disks, earlier.progress, earlier.attempts]);
    }
  });

  it('counts clusters and bytes while a disk is sent', () => {
    const status = statusOf([disk({ ...scanned, phase: 'Streaming', sentBytes: 25 * CLUSTER })]);
    assert.equal(status.phase, 'Streaming');
    assert.deepEqual(status.disks?.[0]?.clusters, { total: 100, scanned: 100, skipped: 60, written: 20 });
    assert.deepEqual(status.progress, {
      percent: 55,
      virtualBytes: 100 * CLUSTER,
      imageBytes: 45 * CLUSTER,
      sentBytes: 25 * CLUSTER,
      skippedBytes: 60 * CLUSTER,
      written: '1.6Mi',
    });
    assert.deepEqual(conditionOf(status, 'SourceReady'), ['True', 'Completed']);
  });

  it('never shows 100 % of what has not arrived', () => {
    const sent = disk({ ...scanned, phase: 'Verifying', sentBytes: 45 * CLUSTER });
    assert.equal(statusOf([sent]).progress?.percent, 99);
    assert.equal(statusOf([disk(arrived)], { end: { phase: 'Succeeded' } }).progress?.percent, 100);
  });

  it('tells what arrived, where and with what proof', () => {
    const status = statusOf([disk(arrived)], { end: { phase: 'Succeeded' } });
    const { location, etag, sha256, proof, sentBytes, imageBytes, reason } = status.disks?.[0] ?? assert.fail();
    assert.deepEqual([location, etag, sha256, proof, sentBytes, reason], ['s3://backups/a', '"e"', SHA256, 'ETag', imageBytes, undefined]);
    assert.deepEqual(conditionOf(status, 'Succeeded'), ['True', 'Completed']);
    assert.deepEqual(conditionOf(status, 'Finished'), ['True', 'Completed']);
    assert.deepEqual(conditionOf(status, 'Progressing'), ['False', 'Completed']);
    assert.equal(status.completionTime, '2026-11-24T12:00:05Z');
  });

  it('says why an attempt is made again, and why an export has failed and which disks are missing', () => {
    const failure = new DiskliftError('SourceReadError', 'a.img: cannot read at offset 7: EIO');
    const waiting = statusOf([disk({ attempts: 2, failure })]);
    assert.deepEqual([waiting.phase, conditionOf(waiting, 'Succeeded')[1]], ['Pending', 'SourceReadError']);
    assert.match(waiting.message ?? '', /attempt 2 failed and will be retried: .*EIO/);
    assert.deepEqual(conditionOf(waiting, 'SourceReady'), ['False', 'SourceReadError']);

    const failed = disk({ phase: 'Failed', attempts: 7, failure });
    const status = statusOf([failed, disk({ ...arrived, path: 'b.img' })], { end: { phase: 'Failed', failure } });
    assert.deepEqual(conditionOf(status, 'Succeeded'), ['False', 'SourceReadError']);
    assert.match(status.message ?? '', /EIO \(not arrived: a\.img\)/);
    assert.deepEqual([status.disks?.[0]?.reason, status.attempts], ['SourceReadError', 8]);
  });

  it('tells of an orderly handover, and of no attempt that failed', () => {
    const failure = new DiskliftError('ExecutorLost', 'the executor was stopped');
    const status = statusOf([disk({ attempts: 0, failure })]);
    assert.deepEqual(conditionOf(status, 'Succeeded'), ['Unknown', 'Unclaimed']);
    assert.match(status.message ?? '', /^the process that ran this export was stopped/);
  });

  it('tells how long an export took, once it has ended', () => {
    assert.equal(statusOf([disk(scanned)]).duration, undefined);
    assert.equal(statusOf([disk(arrived)], { end: { phase: 'Succeeded' }, nowMs: START_MS + 750_000 }).duration, '12m30s');
  });

  it('tells when the next attempt begins, only while the export waits for that', () => {
    const failure = new DiskliftError('DestinationUnreachable', 'away');
    const waiting = disk({ attempts: 1, failure, nextAttemptMs: START_MS + 61_001 });
    assert.equal(statusOf([waiting]).nextAttemptTime, '2026-11-24T12:01:02Z');
    assert.equal(statusOf([waiting], { end: { phase: 'Cancelled' } }).nextAttemptTime, undefined);
    assert.equal(statusOf([disk({ attempts: 1, failure })], {}, statusOf([waiting])).nextAttemptTime, undefined);
  });

  it('says that a disk which was in use waits for a slot', () => {
    const status = statusOf([disk({ isQueued: true })]);
    assert.deepEqual([status.phase, conditionOf(status, 'Progressing')], ['Pending', ['True', 'Queued']]);
    assert.match(status.message ?? '', /^a\.img: is no longer in use, and waits for a slot$/);
    assert.deepEqual(conditionOf(status, 'SourceReady'), ['Unknown', 'Scanning']);
  });

  it('keeps the time of a condition that stays as it is', () => {
    const first = statusOf([disk({ ...scanned, phase: 'Streaming' })]);
    const later = statusOf([disk({ ...scanned, phase: 'Streaming' })], { nowMs: START_MS + 60_000 }, first);
    assert.deepEqual(later.conditions, first.conditions);
    const end = statusOf([disk(arrived)], { nowMs: START_MS + 90_000, end: { phase: 'Succeeded' } }, later);
    assert.equal(end.conditions?.find(({ type }) => type === 'Finished')?.lastTransitionTime, '2026-11-24T12:01:30Z');
  });
});

describe('a disk s state from its status', () => {
  const fresh = disk();
  const through = (state: DiskState) => restoreDiskState(fresh, JSON.parse(JSON.stringify(statusOf([state]))) as DiskExportStatus);

  it('is new for a disk without a status', () => {
    assert.equal(restoreDiskState(fresh, undefined), fresh);
    assert.equal(restoreDiskState(fresh, statusOf([disk({ ...arrived, path: 'other.img' })])), fresh);
  });

  it('keeps what has arrived as it is, and its status is the same again', () => {
    const restored = through(disk(arrived));
    assert.equal(restored.phase, 'Succeeded');
    assert.deepEqual(statusOf([restored], { end: { phase: 'Succeeded' } }), statusOf([disk(arrived)], { end: { phase: 'Succeeded' } }));
  });

  it('states no proof for a disk that an earlier version sent without recording one', () => {
    const status = statusOf([disk(arrived)]);
    const [first = assert.fail()] = status.disks ?? [];
    const { proof: _, ...older } = first;
    assert.equal(restoreDiskState(fresh, { ...status, disks: [older] }).receipt?.proof, 'status');
  });

  it('does not count the attempt that the process died in, and goes on with its upload', () => {
    const upload = { id: 'x', partSizeBytes: 16_777_216, fingerprint: 'f' };
    const restored = through(disk({ ...scanned, phase: 'Streaming', attempts: 3, sentBytes: 9, upload }));
    assert.deepEqual(restored, disk({ attempts: 2, upload, mayHaveSent: true }));
    assert.equal(through(disk({ phase: 'Pending', attempts: 3 })).attempts, 3);
  });

  it('says whether an earlier process may have sent bytes', () => {
    assert.equal(through(disk({ phase: 'Pending' })).mayHaveSent, undefined);
    assert.equal(through(disk({ ...scanned, phase: 'Streaming', attempts: 1 })).mayHaveSent, true);
    // A process that was stopped in order does not count its attempt.
    assert.equal(through(disk({ ...scanned, phase: 'Pending', sentBytes: 9 })).mayHaveSent, true);
    // The process was lost before it wrote its disks down.
    assert.equal(restoreDiskState(fresh, { unfinishedRuns: { count: 1, sentBytes: 0 } }).mayHaveSent, true);
  });

  it('keeps a failure', () => {
    const restored = through(disk({ phase: 'Failed', attempts: 7, failure: new DiskliftError('SourceNotFound', 'gone') }));
    assert.deepEqual(
      [restored.phase, restored.attempts, restored.failure?.code, restored.failure?.message],
      ['Failed', 7, 'SourceNotFound', 'gone'],
    );
  });
});
