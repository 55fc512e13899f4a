/** A disk that is in use is waited for, and the wait costs no attempt. */

import assert from 'node:assert/strict';
import { appendFile } from 'node:fs/promises';
import { systemClock } from '../../../src/common/clock.ts';
import { DiskliftError } from '../../../src/common/errors.ts';
import type { ExportPlan, ExportResult } from '../../../src/engine/contract.ts';
import type { DiskState } from '../../../src/engine/observer.ts';
import { runExport } from '../../../src/engine/run-export.ts';
import type { DiskSource } from '../../../src/sources/contract.ts';
import { DEFAULT_OPTIONS, openSource } from '../../helpers/image-in-process.ts';
import { createDisk } from '../../helpers/sparse-disk.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';
import { createTestClock, type TestClock } from '../../helpers/test-clock.ts';
import { UNCONTESTED_CLAIM } from '../../helpers/uncontested-claim.ts';

const MIB = 1024 * 1024;

const inUse = (retryable: boolean) => new DiskliftError('SourceInUse', 'a.img: is in use', undefined, { retryable });

describe('engine with a disk in use', () => {
  const temp = useTempDir();
  let clock: TestClock;
  let cancel: AbortController;
  let log: string[];
  let disk: string;
  beforeEach(async () => {
    clock = createTestClock();
    cancel = new AbortController();
    log = [];
    disk = await createDisk(temp('a.img'), MIB, [{ offsetBytes: 0, lengthBytes: MIB / 2, content: 'random' }]);
  });

  type Open = (call: number) => Promise<DiskSource>;

  function run(open: Open, rules: Partial<ExportPlan> = {}, sendAgain = 0): Promise<ExportResult> {
    let [opened, sent] = [0, 0];
    const plan = {
      path: 'a.img',
      qcow2: DEFAULT_OPTIONS,
      zeroDetection: 'content' as const,
      openSource: () => open(++opened),
      createTarget: async () => ({
        async send(image: { sizeBytes: number }, { seal }: { seal(): Promise<unknown> }) {
          if (sent++ < sendAgain) await appendFile(disk, 'x');
          await seal();
          return { location: 'memory', sizeBytes: image.sizeBytes, proof: 'status' as const };
        },
        abandon: async () => {},
      }),
    };
    return runExport(
      { checksum: 'None', backoffLimit: 0, ...rules, disks: [plan] },
      {
        signal: cancel.signal,
        claim: UNCONTESTED_CLAIM,
        clock,
        random: () => 0.5,
        warn: assert.fail,
        observer: {
          onChange: ({ phase, attempts, failure }: DiskState) => log.push(`${phase} ${attempts} ${failure?.code ?? 'well'}`),
          onRetry: (_disk, { code }) => log.push(`again after ${code}`),
          onWait: ({ attempts }, { message }) => log.push(`waits ${attempts}: ${message}`),
        },
      },
    );
  }

  /** In use for the first `count` calls. */
  const freeAfter =
    (count: number): Open =>
    async (call) => {
      if (call <= count) throw inUse(true);
      return openSource(disk);
    };

  it('waits, looks every two seconds, tells of it once, and makes its only attempt then', async () => {
    const { phase, disks } = await run(freeAfter(5));
    assert.deepEqual([phase, disks[0]?.attempts, disks[0]?.failure], ['Succeeded', 1, undefined]);
    assert.deepEqual(clock.delaysMs, [2000, 2000, 2000, 2000, 2000]);
    assert.deepEqual(log, [
      'Scanning 1 well',
      'Pending 0 SourceInUse',
      'waits 0: a.img: is in use',
      'Scanning 1 well',
      // The size is known.
      'Scanning 1 well',
      'Streaming 1 well',
      'Verifying 1 well',
      'Succeeded 1 well',
    ]);
  });

  it('waits as well until somebody can tell whether it is in use', async () => {
    const { phase, disks } = await run(async (call) => {
      if (call <= 2) throw new DiskliftError('InUseUnknown', 'nobody answers', undefined, { retryable: true });
      return openSource(disk);
    });
    assert.deepEqual([phase, disks[0]?.attempts], ['Succeeded', 1]);
    assert.deepEqual(log.slice(0, 3), ['Scanning 1 well', 'Pending 0 InUseUnknown', 'waits 0: nobody answers']);
  });

  it('fails at once where it is not to be waited for', async () => {
    const { phase, disks, failure } = await run(async () => {
      throw inUse(false);
    });
    assert.deepEqual([phase, failure?.code, disks[0]?.attempts], ['Failed', 'SourceInUse', 1]);
    assert.deepEqual(clock.delaysMs, []);
  });

  it('keeps the failure of the attempt before, and counts on from it', async () => {
    const open: Open = async (call) => {
      if (call === 2 || call === 3) throw inUse(true);
      return openSource(disk);
    };
    const { phase, disks } = await run(open, { backoffLimit: 1 }, 1);
    assert.deepEqual([phase, disks[0]?.attempts], ['Succeeded', 2]);
    const pending = log.filter((line) => /^(Pending|waits|again)/.test(line));
    assert.deepEqual(pending, [
      'Pending 1 SourceChanged',
      'again after SourceChanged',
      'Pending 1 SourceInUse',
      'waits 1: a.img: is in use',
    ]);
    assert.ok(log.includes('Scanning 2 SourceChanged'));
  });

  it('counts the attempt when what comes after the wait is another failure', async () => {
    const { failure, disks } = await run(async (call) => {
      throw call < 3 ? inUse(true) : new DiskliftError('SourceReadError', 'EIO');
    });
    assert.deepEqual([failure?.code, disks[0]?.attempts], ['SourceReadError', 1]);
  });

  for (const [code, phase] of [
    ['Cancelled', 'Cancelled'],
    ['ExecutorLost', 'Pending'],
  ] as const)
    it(`ends with ${code} while it waits, and has made no attempt`, async () => {
      const result = await run(async (call) => {
        if (call === 3) cancel.abort(new DiskliftError(code, 'enough'));
        throw inUse(true);
      });
      assert.deepEqual([result.phase, result.failure?.code, result.disks[0]?.attempts], [phase, code, 0]);
    });

  it('ends at its deadline while it waits', async () => {
    const startMs = performance.now();
    clock = { ...systemClock, delaysMs: [] };
    const { phase, failure, disks } = await run(async () => Promise.reject(inUse(true)), { activeDeadlineSeconds: 0.2 });
    assert.deepEqual([phase, failure?.code, disks[0]?.attempts], ['Failed', 'DeadlineExceeded', 0]);
    assert.ok(performance.now() - startMs < 1200);
  });

  it('leaves a disk behind that hangs while it is opened, and closes it when it opens yet', async () => {
    const late = Promise.withResolvers<DiskSource>();
    const closed = Promise.withResolvers<void>();
    const running = run(() => late.promise);
    setTimeout(() => cancel.abort(new DiskliftError('Cancelled', 'enough')), 50);
    assert.equal((await running).phase, 'Cancelled');
    const source = await openSource(disk);
    late.resolve({
      ...source,
      async dispose() {
        await source.dispose();
        closed.resolve();
      },
    });
    await closed.promise;
  });
});
