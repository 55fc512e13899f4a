import assert from 'node:assert/strict';
import { systemClock } from '../../../../src/common/clock.ts';
import { DiskliftError } from '../../../../src/common/errors.ts';
import type { ApiAccess } from '../../../../src/stores/kubernetes/client/api-access.ts';
import { apiFailureOf } from '../../../../src/stores/kubernetes/client/api-failure.ts';
import type { ApiRequestFacts, KubeApi } from '../../../../src/stores/kubernetes/client/contract.ts';
import { createKubeApi } from '../../../../src/stores/kubernetes/client/kube-api.ts';
import { type FakeApiServer, type Fault, startFakeApiServer } from '../../../helpers/fake-api-server.ts';
import { createManualClock, type ManualClock } from '../../../helpers/manual-clock.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';
import { until } from '../../../helpers/until.ts';

const MIB = 1024 * 1024;
const FEDORA = { namespace: 'vms', name: 'fedora' };

describe('the client of the API server', () => {
  const temp = useTempDir();
  let fake: FakeApiServer;
  let access: ApiAccess;
  let clock: ManualClock;
  let api: KubeApi;
  let counted: ApiRequestFacts[];

  beforeEach(async () => {
    fake = await startFakeApiServer();
    access = fake.access(temp('kubeconfig'));
    clock = createManualClock();
    counted = [];
    api = createKubeApi({ access, clock, userAgent: 'disklift/test', onRequest: ({ verb, resource }) => counted.push({ verb, resource }) });
  });

  afterEach(async () => {
    await access.close();
    await fake[Symbol.asyncDispose]();
  });

  async function failureOf(call: Promise<unknown>): Promise<DiskliftError> {
    const error = await call.then(
      () => assert.fail('it succeeded'),
      (reason: unknown) => reason,
    );
    assert.ok(error instanceof DiskliftError, String(error));
    return error;
  }

  it('sends each call to its path, as RBAC counts it', async () => {
    const bodies: string[] = [];
    fake.other = (request, body) => {
      bodies.push(`${request.headers['content-type'] ?? ''} ${body}`.trim());
      return { body: { metadata: {} } };
    };
    const metadata = { ...FEDORA, uid: 'u', resourceVersion: '7' };
    await api.exports.get(FEDORA);
    await api.exports.patch(FEDORA, { patch: { metadata: { finalizers: null } } });
    await api.exports.patch(FEDORA, { patch: { status: {} }, subresource: 'status' });
    await api.exports.remove(FEDORA, { uid: 'u' });
    await api.leases.create({ metadata: FEDORA });
    await api.leases.replace({ metadata });
    await api.secrets.get({ namespace: 'vms', name: 'a/../b' });
    const exports = '/apis/disklift.dev/v1alpha1/namespaces/vms/diskexports';
    const leases = '/apis/coordination.k8s.io/v1/namespaces/vms/leases';
    assert.deepEqual(fake.requests, [
      `GET ${exports}/fedora`,
      `PATCH ${exports}/fedora`,
      `PATCH ${exports}/fedora/status`,
      `DELETE ${exports}/fedora`,
      `POST ${leases}`,
      `PUT ${leases}/fedora`,
      'GET /api/v1/namespaces/vms/secrets/a%2F..%2Fb',
    ]);
    assert.deepEqual(
      counted.map(({ verb, resource }) => `${verb} ${resource}`),
      ['get diskexports', 'patch diskexports', 'patch diskexports/status', 'delete diskexports'].concat([
        'create leases',
        'update leases',
        'get secrets',
      ]),
    );
    assert.equal(bodies[1], 'application/merge-patch+json {"metadata":{"finalizers":null}}');
    assert.deepEqual(JSON.parse((bodies[3] as string).replace('application/json ', '')).preconditions, { uid: 'u' });
    assert.equal(fake.headers[0]?.['user-agent'], 'disklift/test');
  });

  it('uses its connections for call after call', async () => {
    fake.other = () => ({ body: {} });
    for (let call = 0; call < 20; call += 1) await api.exports.get(FEDORA);
    // A second one where a call comes before the connection is back from the last.
    assert.ok(fake.connections <= 2, `${fake.connections}`);
  });

  it('lists in pages', async () => {
    for (const name of ['a', 'b', 'c', 'd', 'e']) fake.put(name);
    fake.pageSize = 2;
    const { items, resourceVersion } = await api.exports.list('vms');
    assert.deepEqual(
      items.map(({ metadata }) => metadata.name),
      ['a', 'b', 'c', 'd', 'e'],
    );
    assert.equal(resourceVersion, '105');
    assert.deepEqual(fake.requests, ['list', 'list continue', 'list continue']);
  });

  it('prepares the objects of a page before it reads the next page', async () => {
    for (const name of ['a', 'b', 'c']) fake.put(name);
    fake.pageSize = 2;
    const prepared: string[] = [];
    const { items } = await api.exports.list('vms', {
      prepare(object) {
        prepared.push(`${object.metadata.name} after ${fake.requests.length} requests`);
        return { ...object, spec: {} };
      },
    });
    assert.deepEqual(prepared, ['a after 1 requests', 'b after 1 requests', 'c after 2 requests']);
    assert.ok(items.every(({ spec }) => Object.keys(spec as object).length === 0));
  });

  it('lists fewer objects at a time where a page is too large', async () => {
    const names = ['a', 'b', 'c', 'd', 'e', 'f'];
    for (const name of names) fake.put(name, { text: 'x'.repeat(7 * MIB) });
    const { items } = await api.exports.list('vms');
    assert.deepEqual(
      items.map(({ metadata }) => metadata.name),
      names,
    );
    // 500, 250, 125, 63, 32, 16 and 8 objects are too many.
    assert.deepEqual(fake.requests, [...Array(8).fill('list'), 'list continue']);
  });

  it('fails when one object of a list is larger than a page may be', async () => {
    fake.put('a', { text: 'x'.repeat(33 * MIB) });
    const { message } = await failureOf(api.exports.list('vms'));
    assert.equal(message, 'list diskexports of vms: its answer is too large: more than 32 MiB');
  });

  for (const status of [200, 500])
    it(`fails when a Secret is answered with 100 MiB and status ${status}, and reads no more of it`, async () => {
      let sentBytes = 0;
      fake.other = () => ({
        status,
        flood: (count) => {
          sentBytes = count;
        },
      });
      const error = await failureOf(api.secrets.get(FEDORA));
      assert.deepEqual(apiFailureOf(error), { kind: 'TooLarge', status: undefined });
      assert.equal(error.message, `get secrets vms/fedora: its answer is too large: more than ${status === 200 ? '8 MiB' : '256 KiB'}`);
      assert.ok(sentBytes < 32 * MIB, `${sentBytes}`);
    });

  it('fails within its limit when an answer comes a byte at a time', async () => {
    fake.other = () => ({ drip: true });
    const failed = failureOf(api.secrets.get(FEDORA));
    await until('the request has come', () => fake.requests.length > 0);
    await clock.advance(15_000);
    assert.match((await failed).message, /no answer in 15 s$/);
  });

  it('fails when an event of a watch has more than 8 MiB', async () => {
    const signal = new AbortController().signal;
    const next = api.exports.watch('vms', { resourceVersion: '100', timeoutSeconds: 60, signal })[Symbol.asyncIterator]().next();
    const failed = failureOf(next);
    await until('the watch is open', () => fake.watches.length > 0);
    fake.watches[0]?.write('x'.repeat(9 * MIB));
    assert.match((await failed).message, /it sends a line without an end$/);
  });

  it('gets undefined for a missing object, and removes nothing', async () => {
    assert.equal(await api.secrets.get(FEDORA), undefined);
    assert.equal(await api.exports.remove(FEDORA), false);
  });

  const FAILURES: [string, Fault, Partial<DiskliftError> & { kind: string; says: RegExp }][] = [
    [
      'a conflict',
      { status: 409, body: { reason: 'Conflict', message: 'the object has been modified' } },
      { kind: 'Conflict', retryable: true, says: /has been modified/ },
    ],
    [
      'a name that is taken',
      { status: 409, body: { reason: 'AlreadyExists', message: 'leases "x" already exists' } },
      { kind: 'AlreadyExists', retryable: true, says: /already exists/ },
    ],
    [
      'a Role that lacks a verb',
      { status: 403, body: { reason: 'Forbidden', message: 'User "system:serviceaccount:vms:disklift" cannot get resource\n"leases"' } },
      { kind: 'Forbidden', retryable: true, says: /cannot get resource "leases"$/ },
    ],
    [
      'a quota that is used up',
      { status: 403, body: { reason: 'Forbidden', message: 'pods "disklift-1" is forbidden: exceeded quota: few, requested: pods=1' } },
      {
        kind: 'QuotaExceeded',
        retryable: true,
        says: /: a quota of the namespace does not allow it: .*exceeded quota: few, requested: pods=1$/,
      },
    ],
    [
      'a policy whose text names a quota',
      { status: 403, body: { reason: 'Forbidden', message: 'admission webhook "quota" denied the request: exceeded quota: of requests' } },
      { kind: 'Forbidden', retryable: true, says: /denied the request/ },
    ],
    [
      'a token that has expired',
      { status: 401, body: { reason: 'Unauthorized', message: 'Unauthorized' } },
      { kind: 'Unauthorized', retryable: true, says: /credentials/ },
    ],
    [
      'a version that is gone',
      { status: 410, body: { reason: 'Expired', message: 'too old' } },
      { kind: 'Expired', retryable: true, says: /too old/ },
    ],
    [
      'a server that has too much to do',
      { status: 429, headers: { 'retry-after': '3' }, body: 'try later' },
      { kind: 'Throttled', retryAfterMs: 3000, retryable: true, says: /HTTP 429/ },
    ],
    ['a server that fails', { status: 503, body: '<html>' }, { kind: 'Unavailable', retryable: true, says: /HTTP 503/ }],
    [
      'an object that the schema refuses',
      { status: 422, body: { message: 'spec.holderIdentity: Invalid value' } },
      { kind: 'Invalid', retryable: false, says: /holderIdentity/ },
    ],
    ['a connection that is cut', { cut: true }, { kind: 'Unavailable', retryable: true, says: /other side closed|terminated|reset/ }],
    ['an answer that is not JSON', { status: 200, body: '{"kind":' }, { kind: 'Unavailable', retryable: true, says: /not JSON/ }],
  ];
  for (const [sentence, fault, { kind, says, ...facts }] of FAILURES)
    it(`tells of ${sentence}`, async () => {
      fake.refuse('other', fault);
      const error = await failureOf(api.leases.get(FEDORA));
      assert.deepEqual(apiFailureOf(error)?.kind, kind, error.message);
      assert.equal(error.code, kind === 'Unavailable' || kind === 'Throttled' ? 'StoreUnavailable' : 'StoreRefused');
      assert.match(error.message, /^get leases vms\/fedora: [^\n]+$/);
      assert.match(error.message, says);
      assert.ok(!error.message.includes('secret-token'));
      assert.partialDeepStrictEqual({ ...error }, facts);
    });

  it('reports a server that is not there', async () => {
    await fake[Symbol.asyncDispose]();
    const error = await failureOf(api.leases.get(FEDORA));
    assert.equal(apiFailureOf(error)?.kind, 'Unavailable');
    assert.match(error.message, /ECONNREFUSED/);
  });

  it('waits 15 s for an answer, and asks on another connection then', async () => {
    fake.other = () => ({ body: {} });
    await api.leases.get(FEDORA);
    fake.refuse('other', { hang: true });
    const call = failureOf(api.leases.get(FEDORA));
    await until('the call', () => fake.requests.length === 2);
    await clock.advance(15_000);
    assert.match((await call).message, /no answer in 15 s/);
    const before = fake.connections;
    await api.leases.get(FEDORA);
    assert.equal(fake.connections, before + 1);
  });

  it('ends at once when it is cancelled', async () => {
    fake.refuse('other', { hang: true });
    const cancel = new AbortController();
    const call = failureOf(createKubeApi({ access, clock: systemClock, userAgent: 'x' }).leases.get(FEDORA, { signal: cancel.signal }));
    await until('the call', () => fake.requests.length === 1);
    const startMs = performance.now();
    cancel.abort();
    assert.equal((await call).code, 'Cancelled');
    assert.ok(performance.now() - startMs < 1000);
  });
});
