import assert from 'node:assert/strict';
import type { ApiAccess } from '../../../src/kubernetes/api-access.ts';
import { createKubeApi } from '../../../src/kubernetes/kube-api.ts';
import { createReferenceResolver } from '../../../src/kubernetes/resolve-reference.ts';
import type { RequestStore } from '../../../src/requests/contract.ts';
import { type FakeApiServer, startFakeApiServer } from '../../helpers/fake-api-server.ts';
import { createManualClock } from '../../helpers/manual-clock.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';

const SECRET = { kind: 'Secret', namespace: 'vms', name: 'store' } as const;

describe('the resolver of references', () => {
  const temp = useTempDir();
  let fake: FakeApiServer;
  let access: ApiAccess;
  let resolve: RequestStore['resolve'];

  beforeEach(async () => {
    fake = await startFakeApiServer();
    access = fake.access(temp('kubeconfig'));
    const api = createKubeApi({ access, clock: createManualClock(), userAgent: 'disklift/test' });
    resolve = createReferenceResolver({ api, namespace: 'vms' });
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
    fake.refuse('other', { status: 403, body: { reason: 'Forbidden', message: 'cannot get resource "secrets"' } }, { status: 503 });
    await assert.rejects(resolve(SECRET), {
      code: 'CredentialsInvalid',
      retryable: false,
      message:
        /^Secret vms\/store cannot be read: get secrets vms\/store: the API server does not allow it: cannot get resource "secrets"$/,
    });
    await assert.rejects(resolve(SECRET), { code: 'CredentialsInvalid', retryable: true });
  });
});
