import assert from 'node:assert/strict';
import type { IncomingMessage } from 'node:http';
import type { ApiAccess } from '../../../../src/stores/kubernetes/client/api-access.ts';
import type { KubeApi } from '../../../../src/stores/kubernetes/client/contract.ts';
import { createKubeApi } from '../../../../src/stores/kubernetes/client/kube-api.ts';
import { createTokenReviewer, listsOf } from '../../../../src/stores/kubernetes/client/token-reviewer.ts';
import { type FakeApiServer, type Fault, startFakeApiServer } from '../../../helpers/fake-api-server.ts';
import { createManualClock, type ManualClock } from '../../../helpers/manual-clock.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';
import { until } from '../../../helpers/until.ts';

const TOKENS = 'POST /apis/authentication.k8s.io/v1/tokenreviews';
const ACCESS = 'POST /apis/authorization.k8s.io/v1/subjectaccessreviews';

const METRICS = JSON.stringify({ nonResourceAttributes: { verb: 'get', path: '/metrics' } });
const EXPORTS = JSON.stringify({
  resourceAttributes: { verb: 'list', group: 'disklift.dev', resource: 'diskexports', namespace: 'vms' },
});

const PROMETHEUS = {
  username: 'system:serviceaccount:monitoring:prometheus',
  uid: 'u-1',
  groups: ['system:serviceaccounts', 'system:authenticated'],
  extra: { 'authentication.kubernetes.io/pod-name': ['prometheus-0'] },
};

describe('the reviewer of tokens', () => {
  const temp = useTempDir();
  let fake: FakeApiServer;
  let access: ApiAccess;
  let clock: ManualClock;
  let api: KubeApi;
  let warnings: string[];
  let users: Map<string, object>;
  let permitted: Set<string>;
  let known: Set<string>;
  let review: ReturnType<typeof createTokenReviewer>;

  beforeEach(async () => {
    fake = await startFakeApiServer();
    access = fake.access(temp('kubeconfig'));
    clock = createManualClock();
    warnings = [];
    users = new Map([['right-token', PROMETHEUS]]);
    permitted = new Set([METRICS]);
    known = new Set([METRICS, EXPORTS]);
    fake.other = answerReview;
    api = createKubeApi({ access, clock, userAgent: 'disklift/test' });
    review = createTokenReviewer({
      reviews: api.reviews,
      exports: listsOf(['diskexports'], ['vms']),
      clock,
      warn: (message) => warnings.push(message),
    });
  });

  afterEach(async () => {
    await access.close();
    await fake[Symbol.asyncDispose]();
  });

  /** As a real one: nothing is there that was not asked for, and nothing is asked for that it does not know. */
  function answerReview({ method, url }: IncomingMessage, text: string): Fault {
    const { apiVersion, kind, spec, ...others } = JSON.parse(text);
    assert.deepEqual(others, {});
    if (`${method} ${url}` === TOKENS) {
      assert.deepEqual([apiVersion, kind, Object.keys(spec)], ['authentication.k8s.io/v1', 'TokenReview', ['token']]);
      const user = users.get(spec.token);
      const refused = { user: {}, error: '[invalid bearer token, unknown]' };
      return { status: 201, body: { status: user === undefined ? refused : { authenticated: true, user } } };
    }
    assert.equal(`${method} ${url}`, ACCESS);
    assert.deepEqual([apiVersion, kind], ['authorization.k8s.io/v1', 'SubjectAccessReview']);
    const { nonResourceAttributes, resourceAttributes, ...subject } = spec;
    const { username: user, ...rest } = PROMETHEUS;
    assert.deepEqual(subject, { user, ...rest }, 'all that a rule or a webhook can go by');
    const action = JSON.stringify({ nonResourceAttributes, resourceAttributes });
    assert.ok(known.has(action), action);
    return { status: 201, body: { status: { allowed: permitted.has(action) } } };
  }

  for (const [where, namespaces] of Object.entries({ 'the whole cluster': [], 'two namespaces': ['a', 'b'] }))
    it(`shows the page of a controller for ${where} only to users with every one of its rights`, async () => {
      const rights = listsOf(['diskexports', 'diskexportschedules'], namespaces);
      known = new Set(rights.map((right) => JSON.stringify(right)));
      assert.equal(known.size, 2 * Math.max(1, namespaces.length));
      if (namespaces.length === 0)
        assert.ok(rights.every((right) => 'resourceAttributes' in right && !('namespace' in right.resourceAttributes)));
      for (const missing of [...known, undefined]) {
        permitted = new Set([...known].filter((right) => right !== missing));
        const reviewer = createTokenReviewer({ reviews: api.reviews, exports: rights, clock, warn: (message) => warnings.push(message) });
        assert.equal(await reviewer('right-token', 'exports'), missing === undefined ? 'allowed' : 'forbidden');
      }
    });

  it('shows what RBAC permits to the user of a token, metrics and exports each by themselves', async () => {
    assert.equal(await review('right-token', 'metrics'), 'allowed');
    assert.equal(await review('right-token', 'exports'), 'forbidden');
    assert.deepEqual(fake.requests, [TOKENS, ACCESS, ACCESS]);
    permitted = new Set([EXPORTS]);
    await clock.advance(10_000);
    assert.deepEqual([await review('right-token', 'metrics'), await review('right-token', 'exports')], ['forbidden', 'allowed']);
    assert.deepEqual(warnings, []);
  });

  it('knows nobody by a wrong token, and asks no more about it', async () => {
    assert.equal(await review('wrong', 'metrics'), 'unknown');
    assert.deepEqual(fake.requests, [TOKENS]);
  });

  const NOBODY: [string, object][] = [
    ['that says so', { authenticated: false, user: PROMETHEUS }],
    ['that says it in other words', { authenticated: 'true', user: PROMETHEUS }],
    ['without a user', { authenticated: true }],
    ['without the name of one', { authenticated: true, user: { username: '' } }],
  ];
  for (const [which, status] of NOBODY)
    it(`knows nobody by an answer ${which}`, async () => {
      fake.refuse('other', { status: 201, body: { status } });
      assert.equal(await review('right-token', 'metrics'), 'unknown');
    });

  it('asks once for ten seconds, and anew then', async () => {
    await Promise.all([
      review('right-token', 'metrics'),
      review('right-token', 'metrics'),
      review('wrong', 'metrics'),
      review('wrong', 'metrics'),
    ]);
    await clock.advance(9_999);
    assert.deepEqual([await review('right-token', 'metrics'), await review('wrong', 'metrics')], ['allowed', 'unknown']);
    assert.equal(fake.requests.length, 3);
    users.delete('right-token');
    await clock.advance(1);
    assert.equal(await review('right-token', 'metrics'), 'unknown');
  });

  it('sees within ten seconds that a permission is gone', async () => {
    await review('right-token', 'metrics');
    permitted.clear();
    assert.equal(await review('right-token', 'metrics'), 'allowed');
    await clock.advance(10_000);
    assert.equal(await review('right-token', 'metrics'), 'forbidden');
  });

  it('remembers no more than so many, the last ones', async function () {
    this.timeout(20_000);
    for (let index = 0; index < 513; index += 1) await review(`wrong-${index}`, 'metrics');
    fake.requests.length = 0;
    await review('wrong-512', 'metrics');
    await review('wrong-1', 'metrics');
    assert.deepEqual(fake.requests, []);
    await review('wrong-0', 'metrics');
    assert.deepEqual(fake.requests, [TOKENS]);
  });

  it('has no more than four questions open, however many ask', async () => {
    fake.refuse('other', ...Array(4).fill({ hang: true }), { status: 404 }, ...Array(4).fill({ hang: true }));
    const asked = Promise.all(Array.from({ length: 8 }, (_, index) => review(`token-${index}`, 'metrics')));
    await until('four questions', () => fake.requests.length === 4);
    // A fifth would have come before this.
    await api.leases.get({ namespace: 'vms', name: 'fedora' });
    assert.equal(fake.requests.length, 5);
    await clock.advance(4000);
    await until('four more', () => fake.requests.length === 9);
    await clock.untilWaiting(4000);
    await clock.advance(4000);
    assert.deepEqual(await asked, Array(8).fill('unavailable'));
  });

  const FAILURES: [string, Fault, RegExp][] = [
    ['that fails', { status: 500, body: { message: 'etcd is away' } }, /etcd is away/],
    ['that asks for fewer requests', { status: 429, body: {} }, /fewer requests/],
    ['that does not accept our own credentials', { status: 401, body: {} }, /does not accept the credentials/],
    [
      'that does not let us ask',
      { status: 403, body: { message: 'cannot create resource "tokenreviews"' } },
      /bound to the ClusterRole system:auth-delegator$/,
    ],
    [
      'that repeats the question',
      { status: 422, body: { message: 'spec.token: Invalid value: "right-token"' } },
      /Invalid value: "\*\*\*"/,
    ],
    ['that cuts the connection', { cut: true }, /does not answer as it should/],
    ['that says nothing about it', { status: 201, body: { spec: { token: 'right-token' } } }, /no status/],
    ['that speaks no JSON', { status: 201, body: '<html>' }, /not JSON/],
    ['that answers null', { status: 201, body: 'null' }, /no status/],
  ];
  for (const [which, fault, says] of FAILURES)
    for (const [question, answeredBefore] of [
      ['the token', 0],
      ['the permission', 1],
    ] as const)
      it(`cannot tell, asked about ${question}, by a server ${which}; says so once, and keeps no such answer`, async () => {
        if (answeredBefore === 1) await review('right-token', 'exports');
        fake.refuse('other', fault, fault);
        assert.equal(await review('right-token', 'metrics'), 'unavailable');
        assert.equal(await review('right-token', 'metrics'), 'unavailable');
        assert.equal(warnings.length, 1);
        assert.match(warnings[0] ?? '', says);
        assert.doesNotMatch(warnings[0] ?? '', /right|secret-token|\n/);
        assert.equal(await review('right-token', 'metrics'), 'allowed');
      });

  it('tells of one failure in one line, whatever tokens it is asked about', async () => {
    fake.refuse('other', ...Array(3).fill({ status: 500, body: { message: 'etcd is away' } }), { status: 429, body: {} });
    for (const token of ['e', 'a', 'some-longer-token', 'x']) assert.equal(await review(token, 'metrics'), 'unavailable');
    assert.equal(warnings.length, 2);
    assert.match(warnings[0] ?? '', /: etcd is away$/);
    assert.match(warnings[1] ?? '', /fewer requests/);
  });

  it('waits four seconds for an answer', async () => {
    fake.refuse('other', { hang: true });
    const verdict = review('right-token', 'metrics');
    await until('the question', () => fake.requests.length === 1);
    await clock.untilWaiting(4000);
    await clock.advance(4000);
    assert.equal(await verdict, 'unavailable');
    assert.match(warnings.join(), /no answer in 4 s/);
  });
});
