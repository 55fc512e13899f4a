/** The behaviour of an ExportTarget under faults of the network. */

import assert from 'node:assert/strict';
import type { Fault } from '../helpers/fault-proxy.ts';
import { ALTERATIONS, type Alteration } from '../helpers/s3-fake-alter.ts';
import { assertNothingComplete, assertNothingLeft, type ContractCase, type Outcome, type Scene } from './transfer-scene.ts';

const MIB = 1024 * 1024;

export function itSurvivesFaults(test: ContractCase): void {
  itSurvivesCuts(test);
  itKnowsSlowFromDead(test);
  if (test.destination.resendsBytes !== undefined) itResumes(test, test.destination.resendsBytes);
}

/** Asserts that either the image has arrived or the failure is retryable. */
async function assertTrue(scene: Scene, { receipt, failure }: Outcome): Promise<void> {
  await scene.quiet();
  const image = await scene.peer.image();
  if (receipt !== undefined) assert.ok(image?.equals(await scene.expected()), 'success without the right image');
  else assert.ok(failure?.retryable, `${failure?.code}: ${failure?.message}`);
}

/**
 * Raw cannot distinguish an end by the peer from an orderly end by a proxy between, which has dropped bytes that both
 * kernels had accepted. The receipt therefore claims only that the connection was closed.
 */
async function assertCutAtTheVeryEnd(scene: Scene, { receipt }: Outcome): Promise<void> {
  await scene.quiet();
  assert.equal(receipt?.proof, 'close');
  assert.ok(scene.proxy.passed.toServer >= scene.sizeBytes - 1);
}

function itSurvivesCuts({ destination, set }: ContractCase): void {
  let totalBytes: number | undefined;
  /** How much goes to the peer when nothing happens. */
  async function trafficBytes(): Promise<number> {
    if (totalBytes !== undefined) return totalBytes;
    await using scene = await set();
    const { failure } = await scene.send();
    assert.equal(failure, undefined);
    totalBytes = scene.proxy.passed.toServer;
    return totalBytes;
  }

  const places: Record<string, (totalBytes: number) => number> = {
    'the first byte': () => 1,
    'a byte in the middle': (totalBytes) => Math.floor(totalBytes / 2),
    'the last byte but one': (totalBytes) => totalBytes - 1,
    'the last byte': (totalBytes) => totalBytes,
  };
  for (const kind of ['end', 'reset'] as const)
    for (const [name, place] of Object.entries(places))
      it(`reports success only if the image arrived, when the connection has its ${kind} behind ${name}`, async () => {
        const atByte = place(await trafficBytes());
        await using scene = await set();
        scene.proxy.expect({ kind, direction: 'toServer', atByte, everywhere: true });
        const outcome = await scene.send();
        scene.proxy.assertAllHappened();
        if (kind === 'end' && !destination.knowsLength && outcome.receipt !== undefined) return assertCutAtTheVeryEnd(scene, outcome);
        await assertTrue(scene, outcome);
        // Another attempt succeeds after any outcome of this one.
        scene.proxy.heal();
        const second = await scene.send();
        assert.ok(second.receipt, second.failure?.message);
        assert.ok((await scene.peer.image())?.equals(await scene.expected()));
        assert.deepEqual(await scene.peer.openUploads(), []);
      });
}

function itKnowsSlowFromDead({ set }: ContractCase): void {
  it('fails when the peer reads no more', async () => {
    await using scene = await set();
    scene.proxy.expect({ kind: 'stall', direction: 'toServer', atByte: 3 * MIB, everywhere: true });
    const { failure, tookMs } = await scene.send();
    scene.proxy.assertAllHappened();
    assert.deepEqual([failure?.code, failure?.retryable], ['DestinationUnreachable', true], failure?.message);
    assert.ok(tookMs > 500 && tookMs < 8000, `${tookMs} ms`);
    scene.proxy.heal();
    await assertNothingLeft(scene);
  });

  it('fails when the peer has read everything and does not answer', async () => {
    await using scene = await set();
    // Every answer from then on is lost.
    let answered = false;
    const { failure, receipt } = await scene.send({
      seal: async () => {
        if (!answered) scene.proxy.expect({ kind: 'stall', direction: 'toClient', atByte: scene.proxy.passed.toClient, everywhere: true });
        answered = true;
        return { sha256: await scene.sha256() };
      },
    });
    assert.equal(receipt, undefined);
    assert.deepEqual([failure?.code, failure?.retryable], ['DestinationUnreachable', true], failure?.message);
  });

  it('does not fail when the peer is slow', async () => {
    await using scene = await set();
    scene.proxy.expect({ kind: 'slow', direction: 'toServer', atByte: 0, bytesPerSecond: 4 * MIB, everywhere: true });
    // Bytes in the buffers of both kernels are on their way for up to this long.
    const { receipt, failure, tookMs } = await scene.send({}, { idleMs: 2000, answerMs: 4000 });
    assert.ok(receipt, failure?.message);
    assert.ok(tookMs > 1000, `${tookMs} ms`);
  });
}

export function itFindsCorruption(test: ContractCase): void {
  const { destination, set } = test;
  itFindsSpoiledBytes(test);
  const flip: Fault = { kind: 'corrupt', direction: 'toServer', atByte: 6 * MIB };
  if (destination.findsCorruption)
    it('never reports success when a bit of the image has flipped', async () => {
      await using scene = await set();
      scene.proxy.expect(flip);
      const outcome = await scene.send();
      scene.proxy.assertAllHappened();
      await assertTrue(scene, outcome);
      const second = outcome.receipt === undefined ? await scene.send() : outcome;
      assert.ok(second.receipt, second.failure?.message);
      assert.ok((await scene.peer.image())?.equals(await scene.expected()));
    });
  else
    it('cannot detect a flipped bit, and does not claim a digest as proof', async () => {
      await using scene = await set();
      scene.proxy.expect(flip);
      const { receipt } = await scene.send();
      scene.proxy.assertAllHappened();
      assert.equal((await scene.peer.image())?.equals(await scene.expected()), false);
      assert.ok(receipt?.proof === 'status' || receipt?.proof === 'close', receipt?.proof);
    });
}

/** A peer that stores altered bytes, and answers with success. */
function itFindsSpoiledBytes({ destination, set }: ContractCase): void {
  if (destination.canSpoil !== true) return;
  for (const alteration of Object.keys(ALTERATIONS) as Alteration[])
    for (const [which, times] of [
      ['the first bytes', 1],
      ['all', 100],
    ] as const)
      it(`accepts no wrong image when the peer ${alteration} of ${which}`, async () => {
        await using scene = await set();
        scene.peer.spoil?.(alteration, times);
        const { receipt, failure } = await scene.send();
        // A server may refuse parts of unequal sizes before anything is compared.
        const codes = alteration === 'shortens' ? ['ChecksumMismatch', 'DestinationRejected'] : ['ChecksumMismatch'];
        assert.equal(receipt, undefined);
        assert.ok(failure?.retryable && codes.includes(failure.code), `${failure?.code}: ${failure?.message}`);
        scene.peer.spoil?.(alteration, 0);
        const second = await scene.send();
        assert.ok(second.receipt, second.failure?.message);
        assert.ok((await scene.peer.image())?.equals(await scene.expected()));
        assert.deepEqual(await scene.peer.openUploads(), []);
      });
}

function itResumes({ set }: ContractCase, resendsBytes: number): void {
  it('sends only the missing bytes when it resumes', async () => {
    await using scene = await set();
    scene.proxy.expect({ kind: 'end', direction: 'toServer', atByte: Math.floor(scene.sizeBytes * 0.7), everywhere: true });
    assert.ok((await scene.send()).failure?.retryable);
    await assertNothingComplete(scene);
    scene.proxy.heal();
    await scene.quiet();
    const before = scene.proxy.passed.toServer;
    const { receipt, failure } = await scene.send();
    assert.ok(receipt, failure?.message);
    const againBytes = scene.proxy.passed.toServer - before;
    assert.ok(before + againBytes < scene.sizeBytes + resendsBytes, `${before} and ${againBytes} of ${scene.sizeBytes} bytes`);
    assert.equal(receipt.sha256, await scene.sha256());
    assert.ok((await scene.peer.image())?.equals(await scene.expected()));
    assert.deepEqual(await scene.peer.openUploads(), []);
  });
}
