import assert from 'node:assert/strict';
import type { RequestStore } from '../../../../src/stores/contract.ts';
import type { ApiAccess } from '../../../../src/stores/kubernetes/client/api-access.ts';
import { createKubeApi } from '../../../../src/stores/kubernetes/client/kube-api.ts';
import { createReferenceResolver } from '../../../../src/stores/kubernetes/store/resolve-reference.ts';
import { type FakeApiServer, startFakeApiServer } from '../../../helpers/fake-api-server.ts';
import { createManualClock, type ManualClock } from '../../../helpers/manual-clock.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';

const SECRET = { kind: 'Secret', namespace: 'vms', name: 'store' } as const;

describe('the resolver of references', () => {
  const temp = useTempDir();
  let fake: FakeApiServer;
  let access: ApiAccess;
  let clock: ManualClock;
  let stopping: AbortController;
  let resolve: RequestStore['resolve'];

  beforeEach(async () => {
    fake = await startFakeApiServer();
    access = fake.access(temp('kubeconfig'));
    clock = createManualClock();
    stopping = new AbortController();
    const api = createKubeApi({ access, clock, userAgent: 'disklift/test' });
    resolve = createReferenceResolver({ api, namespace: 'vms', clock, random: () => 0.5, signal: stopping.signal });
  });

  afterEach(async () => {
    await access.close();
    await fake[Symbol.asyncDispose]();
  });

  it('decodes the entries of a Secret, and asks anew each time', async () => {
    const metadata = { labels: { 'disklift.dev/credentials': 'true' }, annotations: { 'disklift.dev/allowed-hosts': 's3.example' } };
    fake.other = () => ({ body: { metadata, data: { key: 'c2VjcmV0', raw: '/w==' } } });
    const secret = await resolve(SECRET);
    assert.deepEqual(secret, { ...metadata, data: { key: Buffer.from('secret'), raw: Buffer.of(255) } });
    await resolve(SECRET);
    assert.deepEqual(fake.requests, Array(2).fill('GET /api/v1/namespaces/vms/secrets/store'));
  });

  it('takes the entries of a ConfigMap as they are', async () => {
    fake.other = () => ({ body: { metadata: {}, data: { 'ca.crt': 'PEM' }, binaryData: { raw: '/w==' } } });
    const configMap = await resolve({ ...SECRET, kind: 'ConfigMap' });
    assert.deepEqual(configMap?.data, { 'ca.crt': Buffer.from('PEM'), raw: Buffer.of(255) });
    assert.deepEqual(fake.requests, ['GET /api/v1/namespaces/vms/configmaps/store']);
  });

  it('has nothing where there is nothing', async () => {
    assert.equal(await resolve(SECRET), undefined);
  });

  it('asks in no other namespace', async () => {
    await assert.rejects(resolve({ ...SECRET, namespace: 'kube-system' }), { code: 'CredentialsInvalid', retryable: false });
    assert.deepEqual(fake.requests, []);
  });

  it('tells what the Role lacks, and tries again where that may help', async () => {
    fake.refuse('other', { status: 403, body: { reason: 'Forbidden', message: 'cannot get resource "secrets"' } }, { status: 500 });
    await assert.rejects(resolve(SECRET), {
      code: 'CredentialsInvalid',
      retryable: false,
      message:
        /^Secret vms\/store cannot be read: get secrets vms\/store: the API server does not allow it: cannot get resource "secrets"$/,
    });
    await assert.rejects(resolve(SECRET), { code: 'CredentialsInvalid', retryable: true });
  });

  it('retries without a limit while the API server does not answer', async () => {
    fake.refuse('other', { cut: true }, { status: 503 }, { status: 429, headers: { 'Retry-After': '7' } }, { status: 504 });
    fake.other = () => ({ body: { metadata: {}, data: { key: 'c2VjcmV0' } } });
    const resolved = resolve(SECRET);
    for (const delayMs of [500, 1000, 7000, 4000]) {
      await clock.untilWaiting(delayMs);
      await clock.advance(delayMs);
    }
    assert.deepEqual((await resolved)?.data, { key: Buffer.from('secret') });
    assert.equal(fake.requests.length, 5);
  });

  it('waits no longer than the process lives', async () => {
    fake.refuse('other', { cut: true });
    const resolved = resolve(SECRET);
    resolved.catch(() => {});
    await clock.untilWaiting(500);
    stopping.abort();
    await assert.rejects(resolved, { code: 'Cancelled' });
  });
});
