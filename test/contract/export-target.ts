/** The contract of every ExportTarget. Each destination calls this with a way to start a real peer of it. */

import assert from 'node:assert/strict';
import { appendFileSync, truncateSync } from 'node:fs';
import { DiskliftError } from '../../src/common/errors.ts';
import type { Destination } from '../helpers/destinations/destination.ts';
import type { Fault } from '../helpers/fault-proxy.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { itIsChecked } from './export-target-check.ts';
import { itFindsCorruption, itSurvivesFaults } from './export-target-faults.ts';
import { itWorksInTheEngine } from './export-target-in-engine.ts';
import { assertNothingComplete, assertNothingLeft, type ContractCase, PROMPT_MS, type Scene, setScene } from './transfer-scene.ts';

const MIB = 1024 * 1024;

/** Long enough for several parts, and for a middle of the transfer. */
const PARTS = [
  { offsetBytes: 100_000, lengthBytes: 7 * MIB, content: 'random' },
  { offsetBytes: 9 * MIB, lengthBytes: MIB, content: 'zeros' },
  { offsetBytes: 20 * MIB + 512, lengthBytes: 5 * MIB, content: 'random' },
] as const;

/** Limits so long that only the cancellation ends a transfer. */
const PATIENT_LIMITS = { connectMs: 20_000, continueMs: 20_000, helloMs: 20_000, idleMs: 20_000, answerMs: 20_000 };

const LOST = new DiskliftError('ExecutorLost', 'somebody else has it');

export function itIsAnExportTarget(destination: Destination): void {
  const temp = useTempDir();
  const set = async () => setScene(destination, await createDisk(temp('a.img'), 32 * MIB, PARTS));
  const test: ContractCase = { destination, set };
  itDelivers(test);
  itIsChecked(test);
  itFindsCorruption(test);
  if (destination.isVariant === true) return;
  itCanBeStopped(test);
  itHoldsBack(test);
  itSurvivesFaults(test);
  itWorksInTheEngine(test);

  it('delivers an image that is shorter than the held-back tail', async () => {
    await using scene = await setScene(destination, await createDisk(temp('empty.img'), 4 * MIB));
    const { receipt, failure } = await scene.send();
    assert.equal(receipt?.sizeBytes, scene.sizeBytes, failure?.message);
    await scene.assertArrived();
  });
}

function itDelivers({ destination, set }: ContractCase): void {
  it('delivers the image byte for byte, and names the proof', async () => {
    await using scene = await set();
    const { receipt, failure } = await scene.send();
    assert.ok(receipt, failure?.message);
    const { location, etag: _, ...rest } = receipt;
    assert.deepEqual(rest, { sizeBytes: scene.sizeBytes, sha256: await scene.sha256(), proof: destination.proof });
    assert.match(location, /^[a-z0-9]+:\/\/[^?@]+$/);
    assert.ok((await scene.peer.image())?.equals(await scene.expected()));
    assert.deepEqual(await scene.peer.openUploads(), []);
    assert.equal(scene.saved, undefined);
    await scene.assertArrived();
    await scene.assertDisconnected();
  });

  it('reports progress that only grows, up to the size', async () => {
    await using scene = await set();
    await scene.send();
    const { progress } = scene;
    assert.deepEqual(
      progress,
      [...progress].sort((a, b) => a - b),
    );
    assert.ok(progress.length > (destination.sealsFirst === true ? 0 : 2), `${progress.length}`);
    assert.equal(progress.at(-1), scene.sizeBytes);
  });

  if (destination.announcesSize)
    it('announces the size before the first byte', async () => {
      await using scene = await set();
      await scene.send();
      assert.equal(scene.peer.announcedBytes(), scene.sizeBytes);
    });

  it('reports a refusal with its error code, and sends almost nothing', async () => {
    await using scene = await set();
    await scene.peer.refuse();
    const { failure } = await scene.send();
    const { code, retryable, mostBytes } = destination.refusal;
    assert.deepEqual([failure?.code, failure?.retryable], [code, retryable], failure?.message);
    assert.ok(scene.proxy.passed.toServer <= mostBytes, `${scene.proxy.passed.toServer} bytes were sent`);
    await assertNothingLeft(scene);
    await scene.assertDisconnected();
  });
}

function itCanBeStopped({ set }: ContractCase): void {
  /** Aborts `afterMs` after that many bytes to the peer, and asserts that the transfer ends at once. */
  async function cancel(scene: Scene, { atByte, afterMs = 0 }: { atByte: number; afterMs?: number }, ...faults: Fault[]): Promise<void> {
    const cancelled = new AbortController();
    let abortedMs = Number.NaN;
    const abort = () => {
      abortedMs = performance.now();
      cancelled.abort(new DiskliftError('Cancelled', 'enough'));
    };
    const act = () => void setTimeout(abort, afterMs);
    for (const fault of [{ kind: 'tell', direction: 'toServer', atByte, act } as const, ...faults]) scene.proxy.expect(fault);
    const { failure } = await scene.send({ signal: cancelled.signal }, PATIENT_LIMITS);
    const tookMs = performance.now() - abortedMs;
    scene.proxy.assertAllHappened();
    assert.deepEqual([failure?.code, failure?.message], ['Cancelled', 'enough']);
    assert.ok(tookMs < PROMPT_MS, `${tookMs} ms`);
    await assertNothingComplete(scene);
    scene.proxy.heal();
    await assertNothingLeft(scene);
  }

  it('stops in the middle of a transfer when its signal is aborted', async () => {
    await using scene = await set();
    const slow = { kind: 'slow', direction: 'toServer', atByte: 0, bytesPerSecond: 32 * MIB, everywhere: true } as const;
    await cancel(scene, { atByte: Math.floor(scene.sizeBytes / 3) }, slow);
    await scene.assertDisconnected();
  });

  for (const [when, part] of [
    ['before it has said a word', 0],
    ['while it takes no more', 0.4],
  ] as const)
    it(`stops when the peer hangs ${when}`, async () => {
      await using scene = await set();
      const atByte = Math.floor(part * scene.sizeBytes);
      await cancel(scene, { atByte, afterMs: 300 }, { kind: 'stall', direction: 'toServer', atByte, everywhere: true });
    });

  it('does not begin when its signal is aborted already', async () => {
    await using scene = await set();
    const { failure } = await scene.send({ signal: AbortSignal.abort(new DiskliftError('Cancelled', 'enough')) });
    assert.deepEqual([failure?.code, failure?.message], ['Cancelled', 'enough']);
    assert.ok(scene.proxy.passed.toServer <= 4096, `${scene.proxy.passed.toServer} bytes were sent`);
    await assertNothingLeft(scene);
  });
}

function itHoldsBack({ destination, set }: ContractCase): void {
  const changes: Record<string, (diskPath: string) => void> = {
    grows: (diskPath) => appendFileSync(diskPath, Buffer.alloc(MIB, 7)),
    shrinks: (diskPath) => truncateSync(diskPath, MIB),
  };
  // A target that seals first reads the whole disk before it sends.
  for (const [name, change] of destination.sealsFirst === true ? [] : Object.entries(changes))
    it(`never completes the image of a disk that ${name} meanwhile`, async () => {
      await using scene = await set();
      const act = () => change(scene.diskPath);
      scene.proxy.expect({ kind: 'tell', direction: 'toServer', atByte: Math.floor(scene.sizeBytes / 4), act });
      const { failure } = await scene.send({
        seal: async () => {
          await scene.quiet();
          return scene.seal();
        },
      });
      scene.proxy.assertAllHappened();
      assert.deepEqual([failure?.code, failure?.retryable], ['SourceChanged', true], failure?.message);
      await assertNothingLeft(scene);
    });

  it('does not complete the image when another process owns the export by then', async () => {
    await using scene = await set();
    let seals = 0;
    const { failure } = await scene.send({
      seal: async () => {
        seals += 1;
        await scene.quiet();
        throw LOST;
      },
    });
    assert.equal(failure, LOST);
    assert.equal(seals, 1);
    await assertNothingComplete(scene);
    await assertNothingLeft(scene);
  });

  it('leaves the image incomplete at the peer while it waits for the seal', async () => {
    await using scene = await set();
    const { receipt, failure } = await scene.send({
      seal: async () => {
        await assertNothingComplete(scene);
        return { sha256: await scene.sha256() };
      },
    });
    assert.ok(receipt, failure?.message);
  });
}
