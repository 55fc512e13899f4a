/** The check of an ExportTarget before the scan. */

import assert from 'node:assert/strict';
import { DiskliftError, type ErrorCode } from '../../src/common/errors.ts';
import { createDestinationPolicy, createNetworkAccess } from '../../src/network/destination-policy.ts';
import { SHORT_LIMITS } from '../helpers/destinations/destination.ts';
import { freePort } from '../helpers/free-port.ts';
import { NEVER } from '../helpers/image-in-process.ts';
import { assertNothingComplete, type ContractCase, PROMPT_MS, type Scene } from './transfer-scene.ts';

const CHECK_BYTES = 4096;

export function itIsChecked({ destination, set }: ContractCase): void {
  const { connects, findsRefusal } = destination.check;

  async function check(scene: Scene, signal: AbortSignal = NEVER, access?: Parameters<Scene['createTarget']>[1]): Promise<void> {
    const target = scene.createTarget({}, access);
    await (target.check ?? assert.fail('there is no check'))(signal);
  }

  async function assertFails(checking: Promise<void>, code: ErrorCode, retryable: boolean): Promise<void> {
    await assert.rejects(checking, (error) => {
      assert.ok(error instanceof DiskliftError, String(error));
      assert.deepEqual([error.code, error.retryable], [code, retryable], error.message);
      assert.match(error.message, /^[^\n]+$/);
      return true;
    });
  }

  it('is checked without a byte of the image, and the peer accepts the image afterwards', async () => {
    await using scene = await set();
    await check(scene);
    assert.ok(scene.proxy.passed.toServer <= CHECK_BYTES, `${scene.proxy.passed.toServer} bytes were sent`);
    await scene.assertDisconnected();
    await assertNothingComplete(scene);
    assert.deepEqual(await scene.peer.openUploads(), []);
    const { receipt, failure } = await scene.send();
    assert.ok(receipt, failure?.message);
  });

  it(`${findsRefusal ? 'fails' : 'passes'} the check when the peer will refuse the image`, async () => {
    await using scene = await set();
    await scene.peer.refuse();
    if (findsRefusal) await assertFails(check(scene), destination.refusal.code, destination.refusal.retryable);
    else await check(scene);
  });

  it('fails the check where the policy does not allow the destination', async () => {
    await using scene = await set();
    const access = createNetworkAccess(createDestinationPolicy({ allow: [], deny: ['127.0.0.1'] }));
    await assertFails(check(scene, NEVER, access), 'DestinationNotAllowed', false);
    assert.equal(scene.proxy.passed.toServer, 0);
  });

  it('does not check when its signal is aborted already', async () => {
    await using scene = await set();
    await assertFails(check(scene, AbortSignal.abort(new DiskliftError('Cancelled', 'enough'))), 'Cancelled', false);
  });

  if (!connects) return;
  it('fails the check with a retryable error when no server listens', async () => {
    await using scene = await set();
    const target = scene.peer.createTarget(await freePort(), SHORT_LIMITS);
    await assertFails(target.check?.(NEVER) ?? assert.fail('there is no check'), 'DestinationUnreachable', true);
  });

  it('ends the check after its time limit when the peer hangs, and at once when the export is cancelled', async () => {
    await using scene = await set();
    scene.proxy.expect({ kind: 'stall', direction: 'toServer', atByte: 0, everywhere: true, mayNotHappen: true });
    const startMs = performance.now();
    // A server of plain HTTP sends nothing before a request, so the check can only connect.
    await check(scene).catch((error: DiskliftError) => assert.deepEqual([error.code, error.retryable], ['DestinationUnreachable', true]));
    assert.ok(performance.now() - startMs < 4 * PROMPT_MS, `${performance.now() - startMs} ms`);
    const cancel = new AbortController();
    const checking = check(scene, cancel.signal).catch((error: DiskliftError) => error);
    const cancelledMs = performance.now();
    cancel.abort(new DiskliftError('Cancelled', 'enough'));
    const ended = await checking;
    if (ended !== undefined) assert.equal(ended.code, 'Cancelled');
    assert.ok(performance.now() - cancelledMs < PROMPT_MS);
  });
}
