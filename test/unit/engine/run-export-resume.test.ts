/** The engine resumes an upload that a destination holds open, or aborts it. */

import assert from 'node:assert/strict';
import { appendFile } from 'node:fs/promises';
import { DiskliftError } from '../../../src/common/errors.ts';
import type { DiskPlan, ExportClaim, ExportResult } from '../../../src/engine/contract.ts';
import { type DiskState, newDiskState } from '../../../src/engine/observer.ts';
import { runExport } from '../../../src/engine/run-export.ts';
import type { VirtualImage } from '../../../src/image/contract.ts';
import type { ExportTarget, Receipt, ResumeState, TransferContext } from '../../../src/targets/contract.ts';
import { DEFAULT_OPTIONS, openSource } from '../../helpers/image-in-process.ts';
import { createDisk } from '../../helpers/sparse-disk.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';
import { createTestClock } from '../../helpers/test-clock.ts';

const MIB = 1024 * 1024;
const away = () => new DiskliftError('DestinationUnreachable', 'away');

type Send = (image: VirtualImage, context: TransferContext, call: number) => Promise<Receipt>;

describe('engine, with a destination that holds transfers open', () => {
  const temp = useTempDir();
  let cancel: AbortController;
  /** The calls, in order. */
  let log: string[];
  let assertHeld: ExportClaim['assertHeld'];
  let abandon: ExportTarget['abandon'];
  let warnings: string[];
  beforeEach(async () => {
    await createDisk(temp('a.img'), 4 * MIB, [{ offsetBytes: MIB, lengthBytes: MIB, content: 'random' }]);
    cancel = new AbortController();
    log = [];
    warnings = [];
    assertHeld = async () => void log.push('assertHeld');
    abandon = async ({ id }) => void log.push(`abandon ${id}`);
  });

  interface Run {
    backoffLimit?: number;
    record?: DiskPlan['record'];
  }

  async function run(send: Send, state: Partial<DiskState> = {}, { backoffLimit = 2, record }: Run = {}): Promise<ExportResult> {
    let calls = 0;
    const target: ExportTarget = {
      send(image, context) {
        calls += 1;
        log.push(`send ${context.resume?.id ?? 'all'}`);
        return send(image, context, calls);
      },
      abandon: (resume, signal) => abandon(resume, signal),
    };
    const disk = {
      path: 'a.img',
      qcow2: DEFAULT_OPTIONS,
      zeroDetection: 'content' as const,
      openSource: () => openSource(temp('a.img')),
      createTarget: async () => target,
      ...(record === undefined ? {} : { record }),
    };
    return runExport(
      { checksum: 'None', backoffLimit, disks: [{ ...disk, state: { ...newDiskState(disk), ...state } }] },
      {
        signal: cancel.signal,
        claim: { assertHeld: () => assertHeld(), saveStates: async () => void log.push('save') },
        clock: createTestClock(),
        random: () => 0.5,
        warn: (message) => warnings.push(message),
        observer: {},
      },
    );
  }

  const uploadOf = ({ fingerprint }: VirtualImage, id: string): ResumeState => ({ id, partSizeBytes: MIB, fingerprint });

  const arrive: Send = async (image, { seal }) => {
    await seal();
    return { location: 'memory', sizeBytes: image.sizeBytes, proof: 'status' };
  };

  const openAndFail: Send = async (image, { saveResume }) => {
    await saveResume(uploadOf(image, 'one'));
    log.push('saved');
    throw away();
  };

  it('drops an upload whose id is too long for the status, and fails', async () => {
    const id = 'x'.repeat(2049);
    const { phase, failure } = await run(async (_image, { saveResume }) => {
      await saveResume({ id, partSizeBytes: MIB, fingerprint: 'f' });
      return assert.fail('nothing is sent to it');
    });
    assert.deepEqual([phase, failure?.code], ['Failed', 'DestinationRejected']);
    assert.match(failure?.message ?? '', /an id of 2049 characters; from 1 to 2048 can be recorded/);
    assert.deepEqual(log.slice(0, 3), ['send all', 'assertHeld', `abandon ${id}`]);
  });

  it('goes on with it at the next attempt; it was saved before anything was put into it', async () => {
    const { phase, disks } = await run(async (image, context, call) => {
      if (call === 1) return openAndFail(image, context, call);
      const receipt = await arrive(image, context, call);
      await context.saveResume(undefined);
      return receipt;
    });
    assert.equal(phase, 'Succeeded');
    assert.deepEqual(log, ['send all', 'save', 'saved', 'send one', 'assertHeld', 'save']);
    assert.equal(disks[0]?.upload, undefined);
  });

  it('goes on with what another process has left, and its attempts count', async () => {
    let fingerprint = '';
    await run(async (image, context, call) => {
      fingerprint = image.fingerprint;
      return arrive(image, context, call);
    });
    log = [];
    const { disks } = await run(arrive, { attempts: 2, upload: { id: 'old', partSizeBytes: MIB, fingerprint } });
    assert.deepEqual([disks[0]?.phase, disks[0]?.attempts], ['Succeeded', 3]);
    assert.deepEqual(log, ['send old', 'assertHeld']);
  });

  it('has it dropped and begins anew when it holds another image', async () => {
    const { disks } = await run(arrive, { upload: { id: 'old', partSizeBytes: MIB, fingerprint: 'another' } });
    assert.deepEqual(log, ['assertHeld', 'abandon old', 'send all', 'assertHeld']);
    assert.equal(disks[0]?.upload, undefined);
  });

  it('has it dropped when the disk has changed in between', async () => {
    const { phase } = await run(async (image, context, call) => {
      if (call > 1) return arrive(image, context, call);
      await context.saveResume(uploadOf(image, 'one'));
      await appendFile(temp('a.img'), 'more');
      return arrive(image, context, call);
    });
    assert.equal(phase, 'Succeeded');
    assert.deepEqual(log, ['send all', 'save', 'assertHeld', 'abandon one', 'send all', 'assertHeld']);
  });

  for (const [how, backoffLimit, act] of [
    ['attempts run out', 0, () => {}],
    ['the export is cancelled', 2, () => cancel.abort(new DiskliftError('Cancelled', 'enough'))],
    ['its time is up', 2, () => cancel.abort(new DiskliftError('DeadlineExceeded', 'late'))],
  ] as const)
    it(`has it dropped when ${how}`, async () => {
      const send: Send = (image, context, call) => openAndFail(image, context, call).finally(act);
      const { phase, disks } = await run(send, {}, { backoffLimit });
      assert.ok(phase === 'Failed' || phase === 'Cancelled');
      assert.deepEqual(log.slice(-2), ['assertHeld', 'abandon one']);
      assert.equal(disks[0]?.upload, undefined);
      assert.deepEqual(warnings, []);
    });

  it('leaves it open, and the attempt uncounted, when the process is to end', async () => {
    const send: Send = (image, context, call) =>
      openAndFail(image, context, call).finally(() => cancel.abort(new DiskliftError('ExecutorLost', 'SIGTERM')));
    const { phase, disks } = await run(send);
    assert.deepEqual([phase, disks[0]?.phase, disks[0]?.attempts, disks[0]?.upload?.id], ['Pending', 'Pending', 0, 'one']);
    assert.ok(!log.some((line) => line.startsWith('abandon')));
  });

  it('neither completes nor drops what is somebody else s by now', async () => {
    assertHeld = async () => {
      throw new DiskliftError('ExecutorLost', 'lost');
    };
    let hasCompleted = false;
    const send: Send = async (image, context, call) => {
      await context.saveResume(uploadOf(image, 'one'));
      const receipt = await arrive(image, context, call);
      hasCompleted = true;
      return receipt;
    };
    const { phase, disks } = await run(send);
    assert.deepEqual([phase, hasCompleted, disks[0]?.upload?.id], ['Pending', false, 'one']);
    assert.ok(!log.some((line) => line.startsWith('abandon')));
  });

  it('writes no receipt beside an image that somebody else may have replaced by now', async () => {
    const taken = async () => {
      throw new DiskliftError('ExecutorLost', 'lost');
    };
    const send: Send = (image, context, call) => arrive(image, context, call).finally(() => (assertHeld = taken));
    const { phase } = await run(send, {}, { record: () => assert.fail('nothing is written') });
    assert.deepEqual([phase, log], ['Pending', ['send all', 'assertHeld']]);
  });

  it('ends all the same when the destination does not answer, and tells what is left there', async () => {
    abandon = (_resume, signal) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
    const { phase, disks } = await run(openAndFail, {}, { backoffLimit: 0 });
    assert.deepEqual([phase, disks[0]?.upload?.id], ['Failed', 'one']);
    assert.match(warnings.join('\n'), /a\.img: an upload is left at the destination: no answer within 8 s/);
  });
});
