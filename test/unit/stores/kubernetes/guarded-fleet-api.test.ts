/** The API of a process that may write only while it leads. */

import assert from 'node:assert/strict';
import { DiskliftError } from '../../../../src/common/errors.ts';
import type { ApiAccess } from '../../../../src/stores/kubernetes/client/api-access.ts';
import { createFleetApi, type FleetApi, guardFleetApi } from '../../../../src/stores/kubernetes/client/fleet-api.ts';
import { type FakeApiServer, startFakeApiServer } from '../../../helpers/fake-api-server.ts';
import { createManualClock, type ManualClock } from '../../../helpers/manual-clock.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';
import { until } from '../../../helpers/until.ts';

const JOB = { namespace: 'vms', name: 'disklift-1' };

describe('the guarded API of the controller', () => {
  const temp = useTempDir();
  let fake: FakeApiServer;
  let access: ApiAccess;
  let clock: ManualClock;
  let api: FleetApi;
  let end: AbortController;
  let beforeWrite: () => Promise<void>;

  beforeEach(async () => {
    fake = await startFakeApiServer();
    fake.other = () => ({ body: { metadata: {} } });
    access = fake.access(temp('kubeconfig'));
    clock = createManualClock();
    end = new AbortController();
    beforeWrite = async () => {};
    const plain = createFleetApi({ access, clock, userAgent: 'disklift/test' });
    api = guardFleetApi(plain, { signal: end.signal, beforeWrite: () => beforeWrite(), writeLimitMs: 10_000 });
  });

  afterEach(async () => {
    await access.close();
    await fake[Symbol.asyncDispose]();
  });

  const writes = (): (() => Promise<unknown>)[] => [
    () => api.jobs.create({ metadata: JOB, spec: { template: { spec: {} } } }),
    () => api.jobs.replace({ metadata: { ...JOB, uid: 'u', resourceVersion: '1' }, spec: { template: { spec: {} } } }),
    () => api.jobs.patch(JOB, { patch: {} }),
    () => api.jobs.remove(JOB),
  ];

  it('sends no write before the check has succeeded, and reads without it', async () => {
    const lost = new DiskliftError('ExecutorLost', 'another process leads');
    beforeWrite = () => Promise.reject(lost);
    for (const write of writes()) await assert.rejects(write(), lost);
    assert.equal(fake.requests.length, 0);
    await api.jobs.get(JOB);
    beforeWrite = async () => {};
    for (const write of writes()) await write();
    assert.deepEqual(
      fake.requests.map((request) => request.split(' ')[0]),
      ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'],
    );
  });

  it('ends a check that hangs with the term, or with the signal of the call', async () => {
    beforeWrite = () => new Promise(() => {});
    const cancel = new AbortController();
    const [cancelled, ended] = [api.jobs.patch(JOB, { patch: {}, signal: cancel.signal }), api.jobs.remove(JOB)];
    cancel.abort();
    await assert.rejects(cancelled, { code: 'Cancelled' });
    end.abort(new DiskliftError('ExecutorLost', 'the term has ended'));
    await assert.rejects(ended, { code: 'ExecutorLost' });
    assert.equal(fake.requests.length, 0);
  });

  it('gives up a write that is not answered within its limit, and a read that runs at the end of the term', async () => {
    fake.other = () => ({ hang: true });
    const write = assert.rejects(api.jobs.remove(JOB), { code: 'StoreUnavailable', message: /no answer in 10 s/ });
    await until('the request', () => fake.requests.length === 1);
    await clock.advance(10_000);
    await write;
    const read = assert.rejects(api.jobs.get(JOB), { code: 'ExecutorLost' });
    await until('the request', () => fake.requests.length === 2);
    end.abort(new DiskliftError('ExecutorLost', 'the term has ended'));
    await read;
    await assert.rejects(api.jobs.get(JOB), { code: 'ExecutorLost' });
    assert.equal(fake.requests.length, 2);
  });
});
