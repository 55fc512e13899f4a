/** An export that waits for a disk in use gives its slot back, and takes one again before it goes on. */

import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { DiskliftError, type ErrorCode } from '../../../src/common/errors.ts';
import type { ExportPlan, ExportResult } from '../../../src/engine/contract.ts';
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
const POLL_MS = 2000;

interface Run {
  done: Promise<ExportResult>;
  cancel: AbortController;
  states: Map<string, DiskState>;
}

describe('engine with a disk in use and few slots', () => {
  const temp = useTempDir();
  let clock: ManualClock;
  let slots: ExportSlots;
  /** Names of disks. */
  let inUse: Set<string>;
  let failing: Set<string>;
  let open: string[];
  let sent: string[];
  /** Transfers that are to hang until they are let go of. */
  let held: Map<string, PromiseWithResolvers<void>>;
  beforeEach(async () => {
    clock = createManualClock();
    slots = createExportSlots({ total: 1 });
    [inUse, failing, open, sent, held] = [new Set(), new Set(), [], [], new Map()];
    await createDisk(temp('a.img'), MIB, [{ offsetBytes: 0, lengthBytes: MIB / 2, content: 'random' }]);
  });

  function diskOf(name: string): ExportPlan['disks'][number] {
    return {
      path: name,
      qcow2: DEFAULT_OPTIONS,
      zeroDetection: 'content',
      async openSource() {
        if (failing.has(name)) throw new DiskliftError('SourceReadError', 'EIO', undefined, { retryable: false });
        if (inUse.has(name)) throw new DiskliftError('SourceInUse', `${name}: is in use`, undefined, { retryable: true });
        const source = await openSource(temp('a.img'));
        open.push(name);
        const dispose = async () => {
          open.splice(open.indexOf(name), 1);
          await source.dispose();
        };
        return { ...source, dispose };
      },
      createTarget: async () => ({
        async send(image, { seal, signal }) {
          signal.throwIfAborted();
          sent.push(name);
          await held.get(name)?.promise;
          await seal();
          return { location: 'memory', sizeBytes: image.sizeBytes, proof: 'status' };
        },
        abandon: async () => {},
      }),
    };
  }

  /** An export in a slot, as the server of requests runs it. */
  function run(names: readonly string[], rules: Partial<ExportPlan> = {}): Run {
    const [cancel, states, slot] = [new AbortController(), new Map<string, DiskState>(), slots.reserve('host')];
    const runInSlot = async () => {
      await slot.acquire(cancel.signal);
      try {
        return await runExport(
          { checksum: 'None', backoffLimit: 0, ...rules, disks: names.map(diskOf) },
          {
            signal: cancel.signal,
            claim: UNCONTESTED_CLAIM,
            clock,
            slot,
            random: () => 0,
            warn: assert.fail,
            observer: { onChange: (state) => states.set(state.path, state) },
          },
        );
      } finally {
        slot.release();
      }
    };
    return { done: runInSlot(), cancel, states };
  }

  function hold(name: string): () => void {
    const hanging = Promise.withResolvers<void>();
    held.set(name, hanging);
    return hanging.resolve;
  }

  const isQueued = (export_: Run, name: string) => until(`${name} is queued`, () => export_.states.get(name)?.isQueued === true);

  /** The export of `waits` waits for a slot. The export of `runs` has it until the caller calls `goOn`. */
  async function queue(rules: Partial<ExportPlan> = {}): Promise<{ first: Run; second: Run; goOn(): void }> {
    const goOn = hold('runs');
    inUse.add('waits');
    const first = run(['waits'], rules);
    await clock.untilWaiting(POLL_MS);
    const second = run(['runs']);
    await until('the other runs', () => sent.includes('runs'));
    inUse.delete('waits');
    await clock.advance(POLL_MS);
    await isQueued(first, 'waits');
    return { first, second, goOn };
  }

  /** Whether the only slot is free. */
  async function assertFree(): Promise<void> {
    const slot = slots.reserve('another host');
    let isIn = false;
    void slot.acquire(AbortSignal.timeout(1000)).then(() => {
      isIn = true;
    });
    await nextTurn();
    assert.ok(isIn);
    slot.release();
  }

  const endOf = ({ phase, failure, disks }: ExportResult) => [phase, failure?.code, disks[0]?.attempts];

  it('lets another pass by for as long as the disk is in use', async () => {
    inUse.add('waits');
    const first = run(['waits']);
    await clock.untilWaiting(POLL_MS);
    assert.equal((await run(['other']).done).phase, 'Succeeded');
    await clock.advance(POLL_MS);
    await clock.untilWaiting(POLL_MS);
    assert.equal((await run(['another']).done).phase, 'Succeeded');
    inUse.delete('waits');
    await clock.advance(POLL_MS);
    assert.deepEqual(endOf(await first.done), ['Succeeded', undefined, 1]);
    assert.deepEqual(sent, ['other', 'another', 'waits']);
    await assertFree();
  });

  it('waits for a slot when the disk is free, keeps nobody from it, and goes before those that have come later', async () => {
    const { first, second, goOn } = await queue();
    const later = run(['later']);
    const state = first.states.get('waits');
    assert.deepEqual([state?.phase, state?.attempts, state?.failure], ['Pending', 0, undefined]);
    assert.deepEqual(open, ['runs']);
    goOn();
    for (const { done } of [first, second, later]) assert.equal((await done).phase, 'Succeeded');
    assert.deepEqual(sent, ['runs', 'waits', 'later']);
    assert.equal(state?.isQueued, false);
    await assertFree();
  });

  it('waits again, without its slot, when the disk has come into use meanwhile', async () => {
    const { first, second, goOn } = await queue();
    const later = run(['later']);
    inUse.add('waits');
    goOn();
    await Promise.all([second.done, later.done]);
    await clock.untilWaiting(POLL_MS);
    const { phase, attempts, failure, isQueued: queued } = first.states.get('waits') ?? assert.fail();
    assert.deepEqual([phase, attempts, failure?.code, queued], ['Pending', 0, 'SourceInUse', false]);
    await assertFree();
    inUse.delete('waits');
    await clock.advance(POLL_MS);
    assert.deepEqual(endOf(await first.done), ['Succeeded', undefined, 1]);
    assert.deepEqual(sent, ['runs', 'later', 'waits']);
  });

  it('sends the disks that are not in use one after the other, and waits for the one that is between them', async () => {
    inUse.add('b');
    const first = run(['a', 'b', 'c']);
    await clock.untilWaiting(POLL_MS);
    const goOn = hold('other');
    const other = run(['other']);
    await until('the other runs', () => sent.includes('other'));
    inUse.delete('b');
    await clock.advance(POLL_MS);
    await isQueued(first, 'b');
    goOn();
    assert.equal((await other.done).phase, 'Succeeded');
    const { phase, disks } = await first.done;
    assert.deepEqual([phase, disks.map(({ attempts }) => attempts)], ['Succeeded', [1, 1, 1]]);
    assert.deepEqual(sent, ['a', 'other', 'b', 'c']);
    await assertFree();
  });

  it('has its slot again when the disk turns out to be unreadable, for the disks behind it', async () => {
    inUse.add('a');
    const first = run(['a', 'b']);
    await clock.untilWaiting(POLL_MS);
    const goOn = hold('other');
    const other = run(['other']);
    await until('the other runs', () => sent.includes('other'));
    failing.add('a');
    await clock.advance(POLL_MS);
    await isQueued(first, 'a');
    assert.deepEqual(sent, ['other']);
    const letGo = hold('b');
    goOn();
    await until('the next disk is sent', () => sent.includes('b'));
    const last = run(['last']);
    await nextTurn();
    assert.deepEqual(sent, ['other', 'b']);
    letGo();
    assert.deepEqual(endOf(await first.done), ['Failed', 'SourceReadError', 1]);
    await Promise.all([other.done, last.done]);
    await assertFree();
  });

  for (const [code, phase] of [
    ['Cancelled', 'Cancelled'],
    ['ExecutorLost', 'Pending'],
  ] as const satisfies [ErrorCode, string][])
    it(`ends with ${code} while it waits for a slot, and takes no slot`, async () => {
      const { first, second, goOn } = await queue();
      first.cancel.abort(new DiskliftError(code, 'enough'));
      assert.deepEqual(endOf(await first.done), [phase, code, 0]);
      goOn();
      await second.done;
      assert.deepEqual(sent, ['runs']);
      await assertFree();
    });

  it('ends at its deadline while it waits for a slot', async () => {
    const { first, second, goOn } = await queue({ activeDeadlineSeconds: 60 });
    await clock.advance(60_000);
    assert.deepEqual(endOf(await first.done), ['Failed', 'DeadlineExceeded', 0]);
    goOn();
    await second.done;
    await assertFree();
  });
});
