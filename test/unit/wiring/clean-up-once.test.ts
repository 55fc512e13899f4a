/** A process that only cleans up after an export. */

import assert from 'node:assert/strict';
import { DiskliftError } from '../../../src/common/errors.ts';
import type { DiskExportStatus } from '../../../src/resource/disk-export.ts';
import { cleanUpOnce } from '../../../src/wiring/clean-up-once.ts';
import { createEnginePorts, type EnginePorts, type Faults } from '../../helpers/engine-ports.ts';
import { createTestClock } from '../../helpers/test-clock.ts';

const UPLOAD = { id: 'upload', partSize: 65_536, fingerprint: 'f' };
const TIMES = { startTime: '2026-01-01T00:00:00Z', completionTime: '2026-01-01T00:01:00Z' };
const FINISHED: DiskExportStatus = { ...TIMES, phase: 'Failed', disks: [{ path: 'a.img', phase: 'Failed', upload: UPLOAD }] };
const AWAY = new DiskliftError('DestinationUnreachable', 'the store of objects is away');

describe('a process that only cleans up', () => {
  let ports: EnginePorts;
  let key: string;
  const stop = () => new AbortController();

  function begin(status: DiskExportStatus, faults: Faults = {}): void {
    ports = createEnginePorts(faults);
    key = ports.add('e', {}, status);
    const stored = ports.get(key) ?? assert.fail();
    stored.isGuarded = true;
  }

  function run({ signal = stop().signal, hasListed = (): boolean => true } = {}): Promise<void> {
    return cleanUpOnce({
      key,
      hasListed,
      store: ports.store,
      clock: createTestClock(),
      planLeftovers: ports.plan,
      warn: (message) => void ports.warnings.push(message),
      stopping: signal,
    });
  }

  it('aborts the upload of an export that has ended, and removes the upload and the finalizer', async () => {
    begin(FINISHED);
    await run();
    assert.equal(ports.calls.filter((call) => call.startsWith('abandon')).length, 1);
    assert.deepEqual(ports.statusOf(key).disks, [{ path: 'a.img', phase: 'Failed' }]);
    assert.deepEqual([ports.get(key)?.isGuarded, ports.get(key)?.isClaimed], [false, false]);
  });

  it('removes the finalizer of an export that has ended and has no upload, and plans nothing', async () => {
    begin({ ...FINISHED, disks: [{ path: 'a.img', phase: 'Succeeded' }] });
    await run();
    assert.equal(ports.get(key)?.isGuarded, false);
    assert.ok(!ports.calls.includes('plan 1'));
  });

  it('lets an export be deleted that is terminating', async () => {
    const { completionTime: _, ...active } = FINISHED;
    begin(active);
    ports.delete(key);
    await run();
    assert.equal(ports.get(key), undefined);
    assert.ok(ports.calls.includes('abandon 1'));
  });

  it('aborts the upload of an export that has not ended, and leaves its finalizer', async () => {
    const { completionTime: _, ...active } = FINISHED;
    begin({ ...active, phase: 'Pending', consistency: 'Crash' });
    await run();
    assert.deepEqual([ports.statusOf(key).disks, ports.statusOf(key).consistency], [[{ path: 'a.img', phase: 'Failed' }], 'Crash']);
    assert.equal(ports.get(key)?.isGuarded, true);
  });

  it('ends where there is no such export, but only when the store has listed its requests', async () => {
    begin(FINISHED);
    key = 'vms/other';
    let looks = 0;
    await assert.doesNotReject(async () => {
      const { store } = ports;
      ports = { ...ports, store: { ...store, claim: async () => undefined } };
      await run({ hasListed: () => ++looks > 3 });
    });
    assert.equal(looks, 4);
  });

  it('waits while another process holds the claim', async () => {
    begin(FINISHED);
    const { store } = ports;
    let claims = 0;
    ports = { ...ports, store: { ...store, claim: async (each) => (++claims < 4 ? undefined : store.claim(each)) } };
    await run();
    assert.deepEqual([claims, ports.get(key)?.isGuarded], [4, false]);
  });

  it('fails where the destination does not answer, and keeps the upload in the status and the finalizer', async () => {
    begin(FINISHED, { failsAlways: { abandon: AWAY } });
    await assert.rejects(run(), { code: 'DestinationUnreachable' });
    assert.deepEqual(ports.statusOf(key).disks?.[0]?.upload, UPLOAD);
    assert.deepEqual([ports.get(key)?.isGuarded, ports.get(key)?.isClaimed], [true, false]);
  });

  it('fails for a terminating export whose destination does not answer, which is deleted all the same', async () => {
    begin(FINISHED, { failsAlways: { abandon: AWAY } });
    ports.delete(key);
    await assert.rejects(run(), { code: 'DestinationUnreachable', message: /e: an upload is left at the destination/ });
    assert.equal(ports.get(key), undefined);
  });

  for (const call of ['get 1', 'claim 1', 'plan 1', 'abandon 1', 'writeStatus 1', 'unguard 1'])
    it(`ends within its grace period when it is stopped while ${call} hangs`, async () => {
      begin(FINISHED, { hangsAt: call });
      const stopping = stop();
      const running = run({ signal: stopping.signal });
      running.catch(() => {});
      await ports.hangs;
      stopping.abort(new DiskliftError('Cancelled', 'cancelled by SIGTERM'));
      await assert.rejects(running, DiskliftError);
    });

  it('fails when the store refuses', async () => {
    begin(FINISHED, { failsAlways: { unguard: new DiskliftError('StoreRefused', 'forbidden') } });
    await assert.rejects(run(), { code: 'StoreRefused' });
    assert.equal(ports.get(key)?.isClaimed, false);
  });
});
