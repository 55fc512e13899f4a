/**
 * An export that waits for its next attempt gives its slot back, and goes before those that came later when the wait is
 * over.
 */

import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { DiskliftError, type ErrorCode } from '../../../src/common/errors.ts';
import type { ExportResult } from '../../../src/engine/contract.ts';
import { createExportSlots, type ExportSlots } from '../../../src/engine/export-slots.ts';
import type { DiskState } from '../../../src/engine/observer.ts';
import { runExport } from '../../../src/engine/run-export.ts';
import { DEFAULT_OPTIONS, openSource } from '../../helpers/image-in-process.ts';
import { createManualClock, type ManualClock } from '../../helpers/manual-clock.ts';
import { createDisk } from '../../helpers/sparse-disk.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';
import { UNCONTESTED_CLAIM } from '../../helpers/uncontested-claim.ts';
import { until } from '../../helpers/until.ts';

const MIB = 1024 * 1024;
const LONG_MS = 60_000;

interface Run {
  done: Promise<ExportResult>;
  cancel: AbortController;
  state(): DiskState;
  opened: number;
}

const busy = (retryAfterMs: number) => new DiskliftError('DestinationRejected', 'busy', undefined, { retryable: true, retryAfterMs });

describe('engine with few slots and destinations that fail', () => {
  const temp = useTempDir();
  let clock: ManualClock;
  let slots: ExportSlots;
  let sent: string[];
  /** Failures of the coming attempts of an export. */
  let failures: Map<string, DiskliftError[]>;
  /** Transfers that hang until the test lets them go on. */
  let held: Map<string, PromiseWithResolvers<void>>;
  beforeEach(async () => {
    clock = createManualClock();
    slots = createExportSlots({ total: 1 });
    [sent, failures, held] = [[], new Map(), new Map()];
    await createDisk(temp('a.img'), MIB, [{ offsetBytes: 0, lengthBytes: MIB / 2, content: 'random' }]);
  });

  function run(name: string, host = 'host'): Run {
    const slot = slots.reserve(host);
    const cancel = new AbortController();
    let state: DiskState | undefined;
    const run: Run = { done: Promise.reject(), cancel, opened: 0, state: () => state ?? assert.fail('nothing has begun') };
    run.done.catch(() => {});
    const runInSlot = async () => {
      await slot.acquire(cancel.signal);
      try {
        return await runExport(
          {
            checksum: 'None',
            backoffLimit: 5,
            disks: [
              {
                path: name,
                qcow2: DEFAULT_OPTIONS,
                zeroDetection: 'content',
                openSource: () => {
                  run.opened += 1;
                  return openSource(temp('a.img'));
                },
                createTarget: async () => ({
                  async send(image, { seal, saveResume }) {
                    sent.push(name);
                    await saveResume({ id: 'upload', partSizeBytes: MIB, fingerprint: image.fingerprint });
                    const failure = failures.get(name)?.shift();
                    if (failure !== undefined) throw failure;
                    await held.get(name)?.promise;
                    await seal();
                    return { location: 'memory', sizeBytes: image.sizeBytes, proof: 'status' };
                  },
                  abandon: async () => {},
                }),
              },
            ],
          },
          {
            signal: cancel.signal,
            claim: UNCONTESTED_CLAIM,
            clock,
            slot,
            random: () => 0,
            warn: assert.fail,
            observer: {
              onChange: (changed) => {
                state = changed;
              },
            },
          },
        );
      } finally {
        slot.release();
      }
    };
    run.done = runInSlot();
    return run;
  }

  function hold(name: string): () => void {
    const hanging = Promise.withResolvers<void>();
    held.set(name, hanging);
    return hanging.resolve;
  }

  it('lets another export run for as long as a server asks to wait, with the scan and the upload kept', async () => {
    failures.set('waits', [busy(LONG_MS)]);
    const waits = run('waits');
    await clock.untilWaiting(LONG_MS);
    assert.equal((await run('other').done).phase, 'Succeeded');
    assert.equal(waits.state().upload?.id, 'upload');
    await clock.advance(LONG_MS);
    const { phase, disks } = await waits.done;
    assert.deepEqual([phase, disks[0]?.attempts, waits.opened], ['Succeeded', 2, 1]);
    assert.deepEqual(sent, ['waits', 'other', 'waits']);
  });

  it('keeps the slot in a wait of a few seconds', async () => {
    failures.set('waits', [busy(5000)]);
    const waits = run('waits');
    await clock.untilWaiting(5000);
    const other = run('other');
    await nextTurn();
    assert.deepEqual(sent, ['waits']);
    await clock.advance(5000);
    await Promise.all([waits.done, other.done]);
    assert.deepEqual(sent, ['waits', 'waits', 'other']);
  });

  it('gives the slot to an export to another host in the shortest wait, and not to one to the same host', async () => {
    failures.set('waits', [busy(4000), busy(4500)]);
    const waits = run('waits', 'dead');
    const same = run('same', 'dead');
    await clock.untilWaiting(4000);
    assert.deepEqual(sent, ['waits']);
    const other = run('other', 'alive');
    await clock.advance(4000);
    assert.equal((await other.done).phase, 'Succeeded');
    assert.deepEqual(sent.slice(0, 3), ['waits', 'waits', 'other']);
    assert.equal((await same.done).phase, 'Succeeded');
    await clock.advance(4500);
    assert.deepEqual([(await waits.done).phase, waits.opened], ['Succeeded', 1]);
  });

  it('waits for a slot behind the export that has it, says so, and goes before those that came later', async () => {
    failures.set('waits', [busy(LONG_MS)]);
    const waits = run('waits');
    await clock.untilWaiting(LONG_MS);
    const goOn = hold('runs');
    const runs = run('runs');
    await until('the other is sent', () => sent.includes('runs'));
    const later = run('later');
    await clock.advance(LONG_MS);
    await until('it is queued', () => waits.state().isQueued === true);
    assert.deepEqual([waits.state().phase, waits.state().failure?.message], ['Pending', 'busy']);
    goOn();
    for (const { done } of [waits, runs, later]) assert.equal((await done).phase, 'Succeeded');
    assert.deepEqual(sent, ['waits', 'runs', 'waits', 'later']);
    assert.equal(waits.state().isQueued, false);
  });

  it('scans again after the wait when other exports that wait keep as many disks open as there are slots', async () => {
    for (const name of ['first', 'second']) failures.set(name, [busy(LONG_MS)]);
    const first = run('first');
    await clock.untilWaiting(LONG_MS);
    const second = run('second');
    await until('the second waits', () => second.opened === 1 && second.state().phase === 'Pending');
    await nextTurn();
    await clock.advance(LONG_MS);
    for (const { done } of [first, second]) assert.equal((await done).phase, 'Succeeded');
    assert.deepEqual([first.opened, second.opened], [1, 2]);
  });

  it('keeps a slot free for other hosts while one host fails', async () => {
    slots = createExportSlots({ total: 2 });
    const dead = ['a', 'b', 'c'];
    for (const name of dead) failures.set(name, Array(6).fill(busy(LONG_MS)));
    const goOn = hold('c');
    failures.set('c', []);
    const runs = dead.map((name) => run(name, 'dead'));
    await until('one hangs', () => sent.includes('c'));
    await nextTurn();
    await clock.advance(LONG_MS);
    await nextTurn();
    assert.equal((await run('other', 'alive').done).phase, 'Succeeded');
    goOn();
    for (const { cancel, done } of runs) {
      cancel.abort(new DiskliftError('Cancelled', 'enough'));
      await done;
    }
  });

  for (const [code, phase] of [
    ['Cancelled', 'Cancelled'],
    ['ExecutorLost', 'Pending'],
  ] as const satisfies [ErrorCode, string][])
    for (const when of ['for its next attempt', 'for a slot'])
      it(`ends with ${code} while it waits ${when}, and leaves the slot to others`, async () => {
        failures.set('waits', [busy(LONG_MS)]);
        const waits = run('waits');
        await clock.untilWaiting(LONG_MS);
        const goOn = hold('runs');
        const runs = run('runs');
        await until('the other is sent', () => sent.includes('runs'));
        if (when === 'for a slot') {
          await clock.advance(LONG_MS);
          await until('it is queued', () => waits.state().isQueued === true);
        }
        waits.cancel.abort(new DiskliftError(code, 'enough'));
        assert.deepEqual([(await waits.done).phase, waits.state().failure?.code], [phase, code]);
        goOn();
        assert.equal((await runs.done).phase, 'Succeeded');
        assert.equal((await run('last').done).phase, 'Succeeded');
      });
});
