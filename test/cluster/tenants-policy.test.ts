/**
 * manifests/examples/tenants.yaml on a real API server: a user of a namespace may send where the namespace allows, and
 * no more.
 */

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { MANIFESTS } from '../helpers/chart.ts';
import { diskExport } from '../helpers/manifest.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { until } from '../helpers/until.ts';
import { type ApiAnswer, type ApiRequest, sendApiRequest } from './api-request.ts';
import { type ApiServer, startApiServer } from './api-server.ts';
import { createNamespace, type Namespace } from './cluster-sidecar.ts';
import { installCrd } from './install-crd.ts';
import { requireBinaries, usesExistingCluster } from './kubernetes-binaries.ts';

const TOKEN = 'of-a-user';
const FINALIZERS = ['disklift.dev/cleanup'];

describe('the example for tenants', function () {
  this.timeout(90_000);
  const temp = useTempDir();
  let api: ApiServer;
  let namespace: Namespace;
  let sidecarToken: string;

  before(async function () {
    // Its users are lines of a file that only the tests' own server has.
    if (usesExistingCluster()) this.skip();
    api = await startApiServer(requireBinaries(this), { users: [`${TOKEN},user,user,"vms-users"`] });
    await installCrd(api);
  });

  after(() => api?.stop());

  beforeEach(async () => {
    namespace = await createNamespace(api);
    const body = { metadata: { labels: { 'disklift.dev/tenants': 'true' } } };
    const place = `/api/v1/namespaces/${namespace.name}`;
    assert.equal((await api.request(place, { method: 'PATCH', body, contentType: 'application/merge-patch+json' })).status, 200);
    await namespace.request('serviceaccounts', { method: 'POST', body: { metadata: { name: 'disklift' } } });
    const text = readFileSync(path.join(MANIFESTS, 'examples', 'tenants.yaml'), 'utf8').replaceAll(/\bvms$/gm, namespace.name);
    writeFileSync(temp('tenants.yaml'), text);
    const applied = await api.kubectl('apply', '--filename', temp('tenants.yaml'));
    assert.equal(applied.code, 0, `${applied.stderr}`);
    await allowSidecar();
    await until('the policy holds', async () => (await create('probe', { http: { url: 'https://evil.example/x' } })).status === 403);
  });

  async function allowSidecar(): Promise<void> {
    const subject = `--serviceaccount=${namespace.name}:disklift`;
    const rights = ['--verb=get,list,patch', '--resource=diskexports'];
    for (const args of [
      ['create', 'role', 'sidecar', ...rights],
      ['create', 'rolebinding', 'sidecar', '--role=sidecar', subject],
    ])
      assert.equal((await api.kubectl(...args, '--namespace', namespace.name)).code, 0);
    const token = await api.kubectl('create', 'token', 'disklift', '--namespace', namespace.name);
    sidecarToken = `${token.stdout}`.trim();
  }

  function as(token: string, place: string, options: ApiRequest = {}): Promise<ApiAnswer> {
    const group = place.startsWith('diskexports') ? '/apis/disklift.dev/v1alpha1' : '/api/v1';
    return sendApiRequest(new URL(`${api.url}${group}/namespaces/${namespace.name}/${place}`), { ...options, ca: api.ca, token });
  }

  function create(name: string, destination: object, metadata: object = {}): Promise<ApiAnswer> {
    const manifest = diskExport(name, destination);
    const body = { ...manifest, metadata: { name, namespace: namespace.name, ...metadata } };
    return as(TOKEN, 'diskexports', { method: 'POST', body });
  }

  const patch = (token: string, name: string, body: object) =>
    as(token, `diskexports/${name}`, { method: 'PATCH', body, contentType: 'application/merge-patch+json' });

  const s3 = { region: 'eu-central-1', bucket: 'backups', key: 'k', credentialsSecretRef: { name: 'keys' } };
  const rows: [what: string, destination: object, status: number, message?: RegExp][] = [
    ['a host of the list', { http: { url: 'https://backup.example/{namespace}/{disk}.qcow2?x=1' } }, 201],
    ['that host at another port, in capitals', { http: { url: 'https://BACKUP.example:8443/x' } }, 201],
    ['S3 of the list', { s3: { ...s3, endpoint: 'https://s3.example' } }, 201],
    ['TCP of the list', { tcp: { host: 'backup.example', port: 9475 } }, 201],
    [
      'another host',
      { http: { url: 'https://evil.example/x' } },
      403,
      /may not be sent to evil\.example .*allowed: backup\.example s3\.example/,
    ],
    ['a host beneath one of the list', { http: { url: 'https://x.backup.example/x' } }, 403],
    ['a host that begins as one of the list', { http: { url: 'https://backup.example.evil.example/x' } }, 403],
    ['the API server', { http: { url: 'https://kubernetes.default.svc/api' } }, 403],
    ['metadata', { http: { url: 'http://169.254.169.254/latest' } }, 403],
    ['IPv6', { http: { url: 'http://[::1]/x' } }, 403],
    ['S3 elsewhere', { s3: { ...s3, endpoint: 'https://evil.example' } }, 403],
    ['S3 of Amazon', { s3 }, 403, /s3\.eu-central-1\.amazonaws\.com/],
    ['TCP elsewhere', { tcp: { host: '10.0.0.1', port: 443 } }, 403],
    ['a URL from a Secret', { http: { urlSecretRef: { name: 'x', key: 'url' } } }, 403, /may not come from a Secret/],
    // The schema of the resource refuses these.
    ['a user in front of the host', { http: { url: 'https://backup.example@evil.example/x' } }, 422],
  ];
  it('allows destinations of the namespace and refuses all others', async () => {
    for (const [index, [what, destination, status, message = /./]] of rows.entries()) {
      const answer = await create(`e${index}`, destination);
      assert.equal(answer.status, status, `${what}: ${JSON.stringify(answer.body.message)}`);
      if (status !== 201) assert.match(answer.body.message, message, what);
    }
  });

  it('allows URLs from Secrets if the namespace does, and refuses every destination without the ConfigMap of the namespace', async () => {
    const data = { urlSecrets: 'true', hosts: '' };
    const place = 'configmaps/disklift-tenants';
    await namespace.request(place, { method: 'PATCH', body: { data }, contentType: 'application/merge-patch+json' });
    const isAllowed = async () => (await create('secret', { http: { urlSecretRef: { name: 'x', key: 'url' } } })).status === 201;
    await until('URLs from Secrets are allowed', isAllowed);
    assert.equal((await create('other', { http: { url: 'https://backup.example/x' } })).status, 403);
    await namespace.request(place, { method: 'DELETE' });
    const isRefused = async () => (await create('again', { http: { urlSecretRef: { name: 'x', key: 'url' } } })).status >= 400;
    await until('nothing is allowed', isRefused);
  });

  it('lets only the sidecar set a finalizer', async () => {
    const destination = { http: { url: 'https://backup.example/x' } };
    assert.match((await create('held', destination, { finalizers: FINALIZERS })).body.message, /only the sidecar may add finalizers/);
    assert.equal((await create('held', destination)).status, 201);
    const finalizers = { metadata: { finalizers: FINALIZERS } };
    assert.equal((await patch(TOKEN, 'held', finalizers)).status, 403);
    assert.equal((await patch(TOKEN, 'held', { metadata: { finalizers: ['evil.example/stay'] } })).status, 403);
    assert.equal((await patch(sidecarToken, 'held', finalizers)).status, 200);
    assert.equal((await patch(TOKEN, 'held', { spec: { cancel: true } })).status, 200, 'what a finalizer is there for may be cancelled');
  });

  it('gives a user no right to Secrets, Leases, pods and the status', async () => {
    assert.equal((await create('mine', { http: { url: 'https://backup.example/x' } })).status, 201);
    for (const place of ['secrets', 'secrets/keys', 'configmaps/disklift-tenants', 'pods'])
      assert.equal((await as(TOKEN, place)).status, 403, place);
    const status = { method: 'PATCH', body: { status: { phase: 'Succeeded' } }, contentType: 'application/merge-patch+json' } as const;
    assert.equal((await as(TOKEN, 'diskexports/mine/status', status)).status, 403);
    const leases = await api.kubectl(
      'auth',
      'can-i',
      'update',
      'leases',
      '--as=user',
      '--as-group=vms-users',
      '--namespace',
      namespace.name,
    );
    assert.equal(`${leases.stdout}`.trim(), 'no');
    // The API server drops a status that a user sends with an object.
    await patch(TOKEN, 'mine', { status: { phase: 'Succeeded' } });
    assert.equal((await namespace.get('mine'))?.status?.phase, 'Pending');
  });
});
