import assert from 'node:assert/strict';
import type { Report } from '../../../src/controller/decision.ts';
import { eventsOf, reportedStatusOf } from '../../../src/controller/report-status.ts';
import type { DiskExportStatus } from '../../../src/resource/disk-export.ts';
import { schemaErrors } from '../../../src/resource/schema.ts';
import { STATUS_SCHEMA } from '../../../src/resource/status-schema.ts';
import { ago, NOW_MS, requestOf } from './observed-facts.ts';

const PENDING: Report = {
  reason: 'ClonePending',
  message: 'the clone has no volume yet',
  startMs: NOW_MS - 5000,
  sourceReady: { status: 'False', reason: 'ClonePending', message: 'the clone has no volume yet' },
  consistency: 'Crash',
  snapshotTime: ago(60),
  leftOut: 'not exported: scratch (is an empty disk)',
};

const FAILED: Report = { reason: 'WorkerFailed', message: 'its pods failed', end: 'Failed', isProblem: true };

const UPLOAD = { id: 'upload-1', partSize: 8, fingerprint: 'f' };

function written(status: DiskExportStatus | undefined, report: Report, nowMs = NOW_MS): DiskExportStatus {
  const next = reportedStatusOf(requestOf({}, status), report, nowMs);
  assert.ok(next !== undefined, 'it is written');
  assert.deepEqual([...schemaErrors(next, STATUS_SCHEMA, 'status')], []);
  return next;
}

describe('the status that the controller writes', () => {
  it('has the state, the conditions and the facts of the report', () => {
    const status = written(undefined, PENDING);
    assert.partialDeepStrictEqual(status, {
      phase: 'Pending',
      message: PENDING.message,
      destination: 'HTTP',
      startTime: ago(5),
      consistency: 'Crash',
      snapshotTime: ago(60),
      observedGeneration: 1,
    });
    assert.deepEqual(
      status.conditions?.map(({ type, status: state, reason }) => `${type} ${state} ${reason}`),
      [
        'Succeeded Unknown ClonePending',
        'Finished False ClonePending',
        'Progressing True ClonePending',
        'SourceReady False ClonePending',
        'VolumesLeftOut True NotExportable',
      ],
    );
  });

  it('is not written again while nothing changes, also after hours', () => {
    const status = written(undefined, PENDING);
    assert.equal(reportedStatusOf(requestOf({}, status), { ...PENDING, startMs: NOW_MS + 1 }, NOW_MS + 7_200_000), undefined);
    const other = { ...PENDING, message: 'the clone has another problem' };
    assert.equal(written(status, other).conditions?.[3]?.lastTransitionTime, ago(0), 'the source is not ready since then');
  });

  it('keeps the start, the disks, the uploads and the executor of a worker', () => {
    const disks = [{ path: 'disk.img', phase: 'Streaming', attempts: 2, upload: UPLOAD }] as const;
    const worker: DiskExportStatus = {
      phase: 'Streaming',
      startTime: ago(500),
      disks: [...disks],
      executor: { podUID: 'pod-1' },
      nextAttemptTime: ago(-30),
      progress: { percent: 40, virtualBytes: 8, imageBytes: 8, sentBytes: 4, skippedBytes: 0, written: '4' },
    };
    const status = written(worker, { reason: 'Starting', message: 'another pod is being started' });
    const { startTime, executor, progress } = worker;
    assert.partialDeepStrictEqual(status, { phase: 'Pending', startTime, executor, progress, disks });
    assert.equal(status.nextAttemptTime, undefined, 'nobody makes this attempt');
  });

  it('ends the disks that have not arrived, and keeps their uploads for the worker that aborts them', () => {
    const disks: DiskExportStatus['disks'] = [
      { path: 'a.img', phase: 'Succeeded' },
      { path: 'b.img', phase: 'Streaming', upload: UPLOAD },
      { path: 'c.img', phase: 'Failed', reason: 'SourceNotFound', message: 'gone' },
    ];
    const status = written({ phase: 'Streaming', startTime: ago(61), disks }, FAILED);
    assert.partialDeepStrictEqual(status, { phase: 'Failed', completionTime: ago(0), duration: '1m1s' });
    const ended = { path: 'b.img', phase: 'Failed', reason: 'WorkerFailed', message: 'its pods failed', upload: UPLOAD };
    assert.deepEqual(status.disks, [disks[0], ended, disks[2]]);
    assert.deepEqual(
      status.conditions?.map(({ type, status: state }) => `${type} ${state}`),
      ['Succeeded False', 'Finished True', 'Progressing False'],
    );
  });

  it('fits the schema whatever a driver says', () => {
    const message = `\u0000\u001b[31m${'x'.repeat(100_000)}`;
    const status = written(undefined, { ...PENDING, message, leftOut: message, sourceReady: { status: 'False', reason: 'X', message } });
    assert.ok(Buffer.byteLength(JSON.stringify(status)) < 400_000);
    assert.equal(
      reportedStatusOf(
        requestOf({}, status),
        { ...PENDING, message, leftOut: message, sourceReady: { status: 'False', reason: 'X', message } },
        NOW_MS + 1,
      ),
      undefined,
    );
  });
});

describe('the events of a report', () => {
  const VM = { source: { virtualMachine: { name: 'db01' } } };

  it('are one for each new reason, and none for the same', () => {
    assert.deepEqual(
      eventsOf(requestOf(), FAILED).map(({ type, reason }) => `${type} ${reason}`),
      ['Warning WorkerFailed'],
    );
    const { leftOut: _, ...report } = PENDING;
    assert.deepEqual(
      eventsOf(requestOf(), report).map(({ type, reason }) => `${type} ${reason}`),
      ['Normal ClonePending'],
    );
    assert.deepEqual(eventsOf(requestOf({}, written(undefined, PENDING)), PENDING), []);
  });

  it('are one for the end, also when it has the reason of the wait before', () => {
    const waiting = written(undefined, { ...PENDING, reason: 'ClaimNotFound' });
    const end: Report = { reason: 'ClaimNotFound', message: 'it was not ready within 600 seconds', end: 'Failed', isProblem: true };
    assert.deepEqual(eventsOf(requestOf({}, waiting), end), [{ type: 'Warning', reason: 'ClaimNotFound', message: end.message }]);
  });

  it('warn once of volumes that are left out, and of a VM whose guest was not frozen', () => {
    assert.deepEqual(
      eventsOf(requestOf(VM), PENDING).map(({ type, reason }) => `${type} ${reason}`),
      ['Normal ClonePending', 'Warning VolumesLeftOut', 'Warning CrashConsistent'],
    );
  });
});
