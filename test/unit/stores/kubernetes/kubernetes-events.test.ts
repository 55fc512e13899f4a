import assert from 'node:assert/strict';
import type { ApiAccess } from '../../../../src/stores/kubernetes/client/api-access.ts';
import { createKubeApi } from '../../../../src/stores/kubernetes/client/kube-api.ts';
import { createEventPoster, type EventPoster } from '../../../../src/stores/kubernetes/store/kubernetes-events.ts';
import { type FakeApiServer, type Fault, startFakeApiServer } from '../../../helpers/fake-api-server.ts';
import { createManualClock, type ManualClock } from '../../../helpers/manual-clock.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';
import { until } from '../../../helpers/until.ts';

const OBJECT = { metadata: { name: 'fedora', namespace: 'vms', uid: 'u', resourceVersion: '1' } };
const RETRYING = { type: 'Warning', reason: 'Retrying', message: 'disk.img: connection refused' } as const;

describe('the poster of events', () => {
  const temp = useTempDir();
  let fake: FakeApiServer;
  let access: ApiAccess;
  let clock: ManualClock;
  let poster: EventPoster;
  let warnings: string[];
  let bodies: { metadata?: { name: string }; message?: string }[];
  let answers: Fault[];

  beforeEach(async () => {
    fake = await startFakeApiServer();
    access = fake.access(temp('kubeconfig'));
    clock = createManualClock();
    [warnings, bodies, answers] = [[], [], []];
    fake.other = (_, body) => {
      bodies.push(JSON.parse(body));
      return answers.shift() ?? { status: 201, body: { metadata: {} } };
    };
    const { events } = createKubeApi({ access, clock, userAgent: 'disklift/test' });
    poster = createEventPoster({ events, clock, instance: 'sidecar-0', warn: (message) => warnings.push(message) });
  });

  afterEach(async () => {
    await access.close();
    await fake[Symbol.asyncDispose]();
  });

  it('counts what happens again, with the latest message', async () => {
    answers.push({ status: 409, body: { reason: 'AlreadyExists' } }, { body: { metadata: {}, count: 4 } }, { body: {} });
    await poster.post(OBJECT, RETRYING);
    const [created, latest, counted] = bodies;
    const name = created?.metadata?.name ?? '';
    assert.match(name, /^fedora\.[0-9a-f]{16}$/);
    assert.deepEqual(fake.requests.slice(1), Array(2).fill(`PATCH /api/v1/namespaces/vms/events/${name}`));
    assert.deepEqual(latest, { message: RETRYING.message, lastTimestamp: '2026-01-01T00:00:00Z' });
    assert.deepEqual(counted, { count: 5 });
    await poster.post(OBJECT, { ...RETRYING, message: 'another' });
    await poster.post(OBJECT, { ...RETRYING, reason: 'Failed' });
    const names = bodies.flatMap(({ metadata }) => metadata?.name ?? []);
    assert.equal(names[1], name);
    assert.notEqual(names[2], name);
  });

  it('tells what is so once without counting it again', async () => {
    answers.push({ status: 409, body: { reason: 'AlreadyExists' } });
    await poster.post(OBJECT, { ...RETRYING, isOnce: true });
    assert.equal(fake.requests.length, 1);
  });

  it('shows characters that change the direction of text by their numbers', async () => {
    await poster.post(OBJECT, { ...RETRYING, message: 'a\u202eb' });
    assert.equal(bodies[0]?.message, 'a\\u202eb');
  });

  it('makes names and messages that the API server takes', async () => {
    const long = { metadata: { ...OBJECT.metadata, name: `${'a'.repeat(235)}.-${'b'.repeat(16)}` } };
    await poster.post(long, { ...RETRYING, message: 'x'.repeat(5000) });
    assert.match(bodies[0]?.metadata?.name ?? '', /^a{235}\.[0-9a-f]{16}$/);
    assert.equal(bodies[0]?.message?.length, 1024);
  });

  it('drops what is not taken, and says so once', async () => {
    const forbidden = { status: 403, body: { reason: 'Forbidden', message: 'cannot create resource "events"' } };
    answers.push(forbidden, forbidden);
    await poster.post(OBJECT, RETRYING);
    await poster.post({ metadata: { ...OBJECT.metadata, name: 'other' } }, RETRYING);
    assert.deepEqual(warnings, ['events are dropped: the API server does not allow it: cannot create resource "events"']);
  });

  it('waits no longer than 5 s', async () => {
    answers.push({ hang: true });
    const post = poster.post(OBJECT, RETRYING);
    await until('the request', () => fake.requests.length === 1);
    const settled = poster.settled();
    await clock.advance(5000);
    await Promise.all([post, settled]);
    assert.equal(warnings.length, 1);
  });
});
