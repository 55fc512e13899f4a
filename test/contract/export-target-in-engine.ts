/** The behaviour of an ExportTarget when the engine runs it. */

import assert from 'node:assert/strict';
import { appendFileSync } from 'node:fs';
import { DiskliftError } from '../../src/common/errors.ts';
import type { ExportTarget } from '../../src/targets/contract.ts';
import { type EngineRun, runEngine } from '../helpers/engine-run.ts';
import { assertNothingComplete, type ContractCase, PROMPT_MS, type Scene } from './transfer-scene.ts';

const MIB = 1024 * 1024;

/** Runs one export through the proxy. @param onAttempt receives the number of the attempt that begins, from 1 on */
function run(scene: Scene, options: Partial<EngineRun> & { onAttempt?(attempt: number): Promise<void> | void } = {}) {
  let attempts = 0;
  const { onAttempt, ...rest } = options;
  const createTarget = async (): Promise<ExportTarget> => {
    attempts += 1;
    // Replaces the wait between attempts: a receiver has to notice first that the last sender is gone. After a cancel
    // no attempt follows.
    if (attempts > 1 && !rest.signal?.aborted) await scene.quiet();
    await onAttempt?.(attempts);
    return scene.createTarget();
  };
  return runEngine({ diskPath: scene.diskPath, createTarget, ...rest });
}

export function itWorksInTheEngine(test: ContractCase): void {
  itIsTriedAgain(test);
  itIsGivenUp(test);
}

function itIsTriedAgain({ destination, set }: ContractCase): void {
  it('arrives at the second attempt', async () => {
    await using scene = await set();
    scene.proxy.expect({ kind: 'reset', direction: 'toServer', atByte: 5 * MIB, everywhere: true });
    const { phase, disks, failure } = await run(scene, { backoffLimit: 1, onAttempt: () => scene.proxy.heal() });
    scene.proxy.assertAllHappened();
    assert.equal(phase, 'Succeeded', failure?.message);
    assert.deepEqual([disks[0]?.attempts, disks[0]?.receipt?.sha256, disks[0]?.upload], [2, await scene.sha256(), undefined]);
    assert.equal(disks[0]?.sentBytes, disks[0]?.imageBytes);
    assert.deepEqual(await scene.peer.openUploads(), []);
    await scene.assertArrived();
  });

  if (destination.sealsFirst === true) return;
  it('starts again when the disk has changed, and the peer never has a mixture', async () => {
    await using scene = await set();
    const act = () => appendFileSync(scene.diskPath, Buffer.alloc(MIB, 7));
    scene.proxy.expect({ kind: 'tell', direction: 'toServer', atByte: Math.floor(scene.sizeBytes / 4), act });
    const { phase, disks, failure } = await run(scene, {
      backoffLimit: 1,
      onAttempt: (attempt) => (attempt > 1 ? assertNothingComplete(scene) : undefined),
    });
    scene.proxy.assertAllHappened();
    assert.equal(phase, 'Succeeded', failure?.message);
    assert.equal(disks[0]?.attempts, 2);
    assert.deepEqual(await scene.peer.openUploads(), []);
    await scene.assertArrived();
  });
}

function itIsGivenUp({ set }: ContractCase): void {
  it('fails with the last reason when the attempts run out', async () => {
    await using scene = await set();
    scene.proxy.expect({ kind: 'reset', direction: 'toServer', atByte: 5 * MIB, everywhere: true });
    const result = await run(scene, { backoffLimit: 2 });
    scene.proxy.assertAllHappened();
    assert.equal(result.phase, 'Failed');
    assert.deepEqual([result.failure?.code, result.disks[0]?.attempts], ['DestinationUnreachable', 3], result.failure?.message);
    assert.match(result.failure?.message ?? '', /\(after 3 attempts\)$/);
    await assertNothingComplete(scene);
  });

  it('leaves nothing behind when it is cancelled', async () => {
    await using scene = await set();
    const cancelled = new AbortController();
    let cancelledMs = Number.NaN;
    const act = () => {
      cancelledMs = performance.now();
      cancelled.abort(new DiskliftError('Cancelled', 'enough'));
    };
    scene.proxy.expect({ kind: 'slow', direction: 'toServer', atByte: 0, bytesPerSecond: 32 * MIB, everywhere: true });
    scene.proxy.expect({ kind: 'tell', direction: 'toServer', atByte: Math.floor(scene.sizeBytes / 3), act });
    const result = await run(scene, { signal: cancelled.signal });
    assert.ok(performance.now() - cancelledMs < PROMPT_MS, `${performance.now() - cancelledMs} ms`);
    assert.deepEqual([result.phase, result.disks[0]?.upload], ['Cancelled', undefined]);
    assert.deepEqual(await scene.peer.openUploads(), []);
    await assertNothingComplete(scene);
  });

  it('leaves the upload to the next owner when the executor is lost', async () => {
    await using scene = await set();
    const lost = new DiskliftError('ExecutorLost', 'somebody else has it');
    const claim = {
      saveStates: async () => {},
      assertHeld: async () => {
        throw lost;
      },
    };
    const result = await run(scene, { claim, backoffLimit: 2 });
    assert.deepEqual([result.phase, result.failure], ['Pending', lost]);
    await assertNothingComplete(scene);
    const { upload } = result.disks[0] ?? assert.fail('no disk');
    assert.equal((await scene.peer.openUploads()).length, upload === undefined ? 0 : 1);
    if (upload !== undefined) await scene.createTarget().abandon(upload, AbortSignal.timeout(5000));
    assert.deepEqual(await scene.peer.openUploads(), []);
  });
}
