import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { DiskliftError } from '../../../src/common/errors.ts';
import { createStatusWriter, type StatusWriter } from '../../../src/engine/status-writer.ts';
import type { DiskExportStatus } from '../../../src/requests/disk-export.ts';
import { NEVER } from '../../helpers/image-in-process.ts';
import { createTestClock, type TestClock } from '../../helpers/test-clock.ts';

describe('status writer', () => {
  let clock: TestClock;
  let now: DiskExportStatus;
  let written: string[];
  let failures: number;
  let writer: StatusWriter;
  let warnings: string[];
  beforeEach(() => {
    clock = createTestClock();
    now = { message: 'first' };
    written = [];
    failures = 0;
    warnings = [];
    writer = createStatusWriter({
      build: () => now,
      async write({ message = '' }) {
        await nextTurn();
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

  it('tries until the last word is written', async () => {
    failures = 3;
    await writer.flush(NEVER);
    assert.deepEqual(written, ['first']);
    assert.equal(warnings.length, 3);
    assert.deepEqual(clock.delaysMs, [250, 500, 1000]);
  });

  it('gives up when it is told to', async () => {
    failures = 1000;
    const stop = new AbortController();
    setImmediate(() => stop.abort(new DiskliftError('ExecutorLost', 'SIGTERM')));
    await assert.rejects(writer.flush(stop.signal), (error) => error instanceof DiskliftError && error.code === 'ExecutorLost');
    assert.deepEqual(written, []);
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
