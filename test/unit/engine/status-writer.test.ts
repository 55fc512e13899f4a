import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { DiskliftError } from '../../../src/common/errors.ts';
import { createStatusWriter, type StatusWriter, statusesByLength } from '../../../src/engine/status-writer.ts';
import type { DiskExportStatus } from '../../../src/resource/disk-export.ts';
import { NEVER } from '../../helpers/image-in-process.ts';
import { createTestClock, type TestClock } from '../../helpers/test-clock.ts';

describe('status writer', () => {
  let clock: TestClock;
  let now: DiskExportStatus;
  let written: string[];
  let writes: number;
  let failures: number;
  let refuses: (status: DiskExportStatus) => boolean;
  let writer: StatusWriter;
  let warnings: string[];
  beforeEach(() => {
    clock = createTestClock();
    now = { message: 'first' };
    written = [];
    writes = 0;
    failures = 0;
    refuses = () => false;
    warnings = [];
    writer = createStatusWriter({
      build: () => now,
      async write(status) {
        const { message = '' } = status;
        await nextTurn();
        writes += 1;
        if (refuses(status)) throw new DiskliftError('StoreRefused', 'is invalid', undefined, { retryable: false });
        if (failures-- > 0) throw new Error('the store is away');
        written.push(message);
      },
      clock,
      random: () => 0.5,
      warn: (message) => warnings.push(message),
    });
  });

  async function settle(): Promise<void> {
    for (let turn = 0; turn < 10; turn += 1) await nextTurn();
  }

  it('writes many changes once, two seconds after the last write', async () => {
    await writer.flush(NEVER);
    for (const message of ['a', 'b', 'c']) {
      now = { message };
      writer.touch();
    }
    await settle();
    assert.deepEqual(written, ['first', 'c']);
    assert.deepEqual(clock.delaysMs, [2000]);
  });

  it('writes nothing that is not new', async () => {
    await writer.flush(NEVER);
    writer.touch();
    await settle();
    await writer.flush(NEVER);
    assert.deepEqual(written, ['first']);
  });

  it('retries until the final status is written', async () => {
    failures = 3;
    await writer.flush(NEVER);
    assert.deepEqual(written, ['first']);
    assert.equal(warnings.length, 3);
    assert.deepEqual(clock.delaysMs, [250, 500, 1000]);
  });

  it('gives up when its signal is aborted', async () => {
    failures = 1000;
    const stop = new AbortController();
    setImmediate(() => stop.abort(new DiskliftError('ExecutorLost', 'SIGTERM')));
    await assert.rejects(writer.flush(stop.signal), (error) => error instanceof DiskliftError && error.code === 'ExecutorLost');
    assert.deepEqual(written, []);
  });

  it('writes a shorter status in place of one that is refused for good, and only such from then on', async () => {
    refuses = ({ progress }) => progress !== undefined;
    const progress = { percent: 0, virtualBytes: 0, imageBytes: 0, sentBytes: 0, skippedBytes: 0, written: '0' };
    now = { message: 'first', progress };
    await writer.flush(NEVER);
    now = { message: 'second', progress };
    await writer.flush(NEVER);
    assert.deepEqual([written, writes], [['first', 'second'], 3]);
    assert.equal(warnings.length, 1);
  });

  it('keeps the snapshot and the volumes that are left out in the shorter statuses', () => {
    const conditions = ['VolumesLeftOut', 'SourceReady'].map((type) => ({ type, status: 'True' as const, reason: 'A', message: '' }));
    const snapshot = { consistency: 'Crash', snapshotTime: '2026-11-24T11:59:00Z' } as const;
    for (const status of statusesByLength({ ...snapshot, conditions }).slice(1)) {
      assert.partialDeepStrictEqual(status, snapshot);
      assert.deepEqual(status.conditions, conditions.slice(0, 1));
    }
  });

  it('throws the refusal of the briefest status at once, and is silent until the next flush', async () => {
    refuses = () => true;
    await assert.rejects(writer.flush(NEVER), { code: 'StoreRefused' });
    assert.equal(writes, 3);
    now = { message: 'later' };
    for (let turn = 0; turn < 5; turn += 1) {
      writer.touch();
      await settle();
    }
    assert.equal(writes, 3);
    refuses = () => false;
    await writer.flush(NEVER);
    assert.deepEqual(written, ['later']);
    writer.touch();
    now = { message: 'last' };
    await settle();
    assert.deepEqual(written, ['later', 'last']);
  });

  it('never lets an older status follow a newer one', async () => {
    const first = writer.flush(NEVER);
    now = { message: 'second' };
    await Promise.all([first, writer.flush(NEVER)]);
    assert.equal(written.at(-1), 'second');
  });

  it('writes no more when it is stopped', async () => {
    await writer.flush(NEVER);
    writer.stop();
    now = { message: 'late' };
    writer.touch();
    await settle();
    assert.deepEqual(written, ['first']);
  });
});
