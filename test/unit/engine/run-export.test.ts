import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { appendFile } from 'node:fs/promises';
import { systemClock } from '../../../src/common/clock.ts';
import { DiskliftError } from '../../../src/common/errors.ts';
import type { DiskPlan, ExportPlan, ExportResult } from '../../../src/engine/contract.ts';
import { runExport } from '../../../src/engine/run-export.ts';
import type { VirtualImage } from '../../../src/image/contract.ts';
import type { ExportTarget, Receipt, TransferContext } from '../../../src/targets/contract.ts';
import { DEFAULT_OPTIONS, openSource } from '../../helpers/image-in-process.ts';
import { createDisk } from '../../helpers/sparse-disk.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';
import { createTestClock, type TestClock } from '../../helpers/test-clock.ts';
import { UNCONTESTED_CLAIM } from '../../helpers/uncontested-claim.ts';

const MIB = 1024 * 1024;

type Send = (image: VirtualImage, context: TransferContext, call: number) => Promise<Receipt>;

const unreachable = () => new DiskliftError('DestinationUnreachable', 'the peer is away');

/** Takes the whole image. */
async function take(image: VirtualImage, { signal, progress, seal }: TransferContext): Promise<Receipt> {
  const hash = createHash('sha256');
  let sentBytes = 0;
  for await (const chunk of image.stream({ signal })) {
    hash.update(chunk);
    sentBytes += chunk.length;
    progress(sentBytes);
  }
  const { sha256 } = await seal();
  if (sha256 !== undefined) assert.equal(sha256, hash.digest('hex'));
  return { location: 'memory', sizeBytes: sentBytes, proof: 'status', ...(sha256 === undefined ? {} : { sha256 }) };
}

describe('engine', () => {
  const temp = useTempDir();
  let clock: TestClock;
  let cancel: AbortController;
  let log: string[];
  let opened: number;
  beforeEach(() => {
    clock = createTestClock();
    cancel = new AbortController();
    log = [];
    opened = 0;
  });

  async function diskPlan(path: string, send: Send): Promise<DiskPlan> {
    const file = await createDisk(temp(path), 4 * MIB, [{ offsetBytes: MIB, lengthBytes: 2 * MIB, content: 'random' }]);
    let calls = 0;
    const target: ExportTarget = {
      send: (image, context) => {
        calls += 1;
        return send(image, context, calls);
      },
      abandon: async () => {},
    };
    return {
      path,
      qcow2: DEFAULT_OPTIONS,
      zeroDetection: 'content',
      openSource: () => {
        opened += 1;
        return openSource(file);
      },
      createTarget: async () => target,
    };
  }

  async function run(sends: Record<string, Send>, rules: Partial<ExportPlan> = {}, change: Partial<DiskPlan> = {}): Promise<ExportResult> {
    const plans = await Promise.all(Object.entries(sends).map(([path, send]) => diskPlan(path, send)));
    const disks = plans.map((plan) => ({ ...plan, ...change }));
    return runExport(
      { checksum: 'SHA256', backoffLimit: 2, ...rules, disks },
      {
        signal: cancel.signal,
        claim: UNCONTESTED_CLAIM,
        clock,
        random: () => 0.5,
        warn: assert.fail,
        observer: {
          onChange: ({ path, phase }) => log.push(`${path} ${phase}`),
          onRetry: ({ path }, { code }, delayMs) => log.push(`${path} again in ${delayMs} after ${code}`),
        },
      },
    );
  }

  it('brings every disk to its destination, through all phases, and keeps its facts', async () => {
    const { phase, disks, failure } = await run({ 'a.img': take, 'b.img': take });
    assert.deepEqual([phase, failure], ['Succeeded', undefined]);
    for (const { phase: diskPhase, attempts, virtualBytes, scannedBytes, sentBytes, imageBytes, map, receipt } of disks) {
      assert.deepEqual([diskPhase, attempts, virtualBytes, scannedBytes], ['Succeeded', 1, 4 * MIB, 4 * MIB]);
      assert.deepEqual(map?.clusters, { total: 64, data: 32, zero: 0, hole: 32 });
      assert.ok(imageBytes !== undefined && imageBytes > 2 * MIB);
      assert.equal(sentBytes, imageBytes);
      assert.equal(receipt?.sizeBytes, imageBytes);
      assert.match(receipt?.sha256 ?? '', /^[0-9a-f]{64}$/);
    }
    // Scanning twice: it begins, and then the disk's size is known.
    const phases = ['Scanning', 'Scanning', 'Streaming', 'Verifying', 'Succeeded'];
    assert.deepEqual(
      log,
      ['a.img', 'b.img'].flatMap((path) => phases.map((name) => `${path} ${name}`)),
    );
  });

  it('asks the destination before each scan, and opens no disk where it refuses', async () => {
    const answers = [unreachable(), undefined, new DiskliftError('DestinationRejected', 'there is no such bucket')];
    let asked = 0;
    const createTarget = async (): Promise<ExportTarget> => ({
      async check() {
        log.push(`asked with ${opened} disks opened`);
        const answer = answers[asked];
        asked += 1;
        if (answer !== undefined) throw answer;
      },
      send: (image, context) => (asked === 2 ? changeAndTake(image, context) : take(image, context)),
      abandon: async () => {},
    });
    const changeAndTake = async (image: VirtualImage, context: TransferContext): Promise<Receipt> => {
      await appendFile(temp('a.img'), 'more');
      return take(image, context);
    };
    const { phase, failure } = await run({ 'a.img': take }, {}, { createTarget });
    assert.deepEqual([phase, failure?.message, opened], ['Failed', 'there is no such bucket', 1]);
    assert.deepEqual(
      log.filter((line) => line.startsWith('asked')),
      ['asked with 0 disks opened', 'asked with 0 disks opened', 'asked with 1 disks opened'],
    );
  });

  it('computes no checksum that nobody wants', async () => {
    const { disks } = await run({ 'a.img': take }, { checksum: 'None' });
    assert.equal(disks[0]?.receipt?.sha256, undefined);
  });

  it('tries again after waiting, and scans an unchanged disk once', async () => {
    const send: Send = (image, context, call) => (call < 3 ? Promise.reject(unreachable()) : take(image, context));
    const { phase, disks } = await run({ 'a.img': send });
    assert.deepEqual([phase, disks[0]?.attempts, opened], ['Succeeded', 3, 1]);
    assert.deepEqual(clock.delaysMs, [1000, 4000]);
    assert.ok(log.includes('a.img again in 1000 after DestinationUnreachable'));
  });

  it('passes to an attempt whether an earlier one has sent bytes that may block it', async () => {
    const told: (boolean | undefined)[] = [];
    const send: Send = async (image, context, call) => {
      told.push(context.hasSentBefore);
      if (call === 1) throw unreachable();
      if (call === 3) return take(image, context);
      context.progress(1);
      throw unreachable();
    };
    await run({ 'a.img': send });
    assert.deepEqual(told, [false, false, true]);
  });

  it('waits as long as the peer has asked for', async () => {
    const busy = new DiskliftError('DestinationRejected', 'busy', undefined, { retryable: true, retryAfterMs: 45_000 });
    await run({ 'a.img': (image, context, call) => (call === 1 ? Promise.reject(busy) : take(image, context)) });
    assert.deepEqual(clock.delaysMs, [45_000]);
  });

  it('fails when the attempts run out, for the reason of the last, and says how many there were', async () => {
    const { phase, disks, failure } = await run({ 'a.img': () => Promise.reject(unreachable()) });
    assert.deepEqual([phase, disks[0]?.phase, disks[0]?.attempts], ['Failed', 'Failed', 3]);
    assert.deepEqual([failure?.code, failure?.message], ['DestinationUnreachable', 'the peer is away (after 3 attempts)']);
    const single = await run({ 'b.img': () => Promise.reject(unreachable()) }, { backoffLimit: 0 });
    assert.equal(single.failure?.message, 'the peer is away (after 1 attempt)');
  });

  it('does not try again what cannot get better, and brings the other disks', async () => {
    const rejected = new DiskliftError('DestinationRejected', 'no');
    const { phase, disks, failure } = await run({ 'a.img': () => Promise.reject(rejected), 'b.img': take });
    assert.deepEqual(
      disks.map((disk) => [disk.phase, disk.attempts]),
      [
        ['Failed', 1],
        ['Succeeded', 1],
      ],
    );
    assert.deepEqual([phase, failure], ['Failed', rejected]);
  });

  it('scans a disk anew that has changed, and never seals the old image', async () => {
    let sealed = 0;
    const send: Send = async (image, context, call) => {
      if (call === 1) await appendFile(temp('a.img'), 'more');
      const receipt = await take(image, context);
      sealed += 1;
      return receipt;
    };
    const { phase, disks } = await run({ 'a.img': send });
    assert.deepEqual([phase, disks[0]?.attempts, opened, sealed], ['Succeeded', 2, 2, 1]);
    assert.ok(log.some((line) => line.endsWith('after SourceChanged')));
    assert.equal(disks[0]?.virtualBytes, 4 * MIB + 4);
  });

  it('ends at once when it is cancelled, whatever the transfer says then', async () => {
    const send: Send = () => {
      cancel.abort(new DiskliftError('Cancelled', 'cancelled by SIGTERM'));
      return Promise.reject(unreachable());
    };
    const { phase, disks, failure } = await run({ 'a.img': send, 'b.img': take });
    assert.deepEqual([phase, failure?.message], ['Cancelled', 'cancelled by SIGTERM']);
    assert.deepEqual(
      disks.map((disk) => disk.phase),
      ['Cancelled', 'Cancelled'],
    );
    assert.equal(opened, 1);
  });

  it('ends a wait for what the destination refers to when it is cancelled', async () => {
    const createTarget = () => {
      setImmediate(() => cancel.abort());
      return new Promise<never>(() => {});
    };
    const { phase, disks } = await run({ 'a.img': take }, {}, { createTarget });
    assert.deepEqual([phase, disks[0]?.phase, disks[0]?.attempts], ['Cancelled', 'Cancelled', 1]);
  });

  it('ends a wait when it is cancelled', async () => {
    const { phase } = await runWithRealClock(() => cancel.abort(new DiskliftError('Cancelled', 'cancelled')));
    assert.equal(phase, 'Cancelled');
  });

  async function runWithRealClock(onRetry: () => void): Promise<ExportResult> {
    const plan = await diskPlan('a.img', () => Promise.reject(unreachable()));
    return runExport(
      { checksum: 'None', backoffLimit: 2, disks: [plan] },
      {
        signal: cancel.signal,
        claim: UNCONTESTED_CLAIM,
        clock: systemClock,
        random: () => 0.99,
        warn: assert.fail,
        observer: { onRetry: () => setImmediate(onRetry) },
      },
    );
  }

  it('fails when its deadline has passed', async () => {
    const hang: Send = (_image, { signal }) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(unreachable())));
    const { phase, failure } = await run({ 'a.img': hang, 'b.img': take }, { activeDeadlineSeconds: 30 });
    assert.deepEqual([phase, failure?.code], ['Failed', 'DeadlineExceeded']);
    assert.match(failure?.message ?? '', /30 s/);
  });

  it('does not hide mistakes of the program', async () => {
    await assert.rejects(run({ 'a.img': () => Promise.reject(new TypeError('oops')) }), (error) => error instanceof TypeError);
  });
});
