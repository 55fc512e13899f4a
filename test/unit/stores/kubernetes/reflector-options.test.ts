/** The reflector of a kind that may be absent, and of objects that it caches in another form. */

import assert from 'node:assert/strict';
import { createReflector, type ReflectorOptions, type RunningReflector } from '../../../../src/stores/kubernetes/cache/reflector.ts';
import type { ApiAccess } from '../../../../src/stores/kubernetes/client/api-access.ts';
import { createKubeApi } from '../../../../src/stores/kubernetes/client/kube-api.ts';
import type { ExportObject } from '../../../../src/stores/kubernetes/client/objects.ts';
import { type FakeApiServer, startFakeApiServer } from '../../../helpers/fake-api-server.ts';
import { createManualClock, type ManualClock } from '../../../helpers/manual-clock.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';
import { until } from '../../../helpers/until.ts';

const ABSENT = { status: 404, body: '404 page not found\n' };

describe('the options of the reflector', () => {
  const temp = useTempDir();
  let fake: FakeApiServer;
  let access: ApiAccess;
  let clock: ManualClock;
  let reflector: RunningReflector<ExportObject>;
  let end: AbortController;
  let ended: Promise<void>;
  let keys: string[];
  let warnings: string[];

  beforeEach(async () => {
    fake = await startFakeApiServer();
    access = fake.access(temp('kubeconfig'));
    clock = createManualClock();
    [keys, warnings] = [[], []];
  });

  afterEach(async () => {
    end.abort();
    await ended;
    await access.close();
    await fake[Symbol.asyncDispose]();
  });

  function run(options: Partial<ReflectorOptions<ExportObject>>): void {
    end = new AbortController();
    reflector = createReflector({
      resource: createKubeApi({ access, clock, userAgent: 'disklift/test' }).exports,
      namespace: 'vms',
      onKey: (key) => keys.push(key),
      clock,
      random: () => 0.4,
      warn: (message) => warnings.push(message),
      ...options,
    });
    ended = reflector.run(end.signal);
  }

  it('counts an optional kind whose CRD is absent as synced, warns once and looks for it every minute', async () => {
    fake.refuse('list', ABSENT, ABSENT, ABSENT);
    run({ isOptional: true });
    for (let look = 1; look <= 3; look += 1) {
      await clock.untilWaiting(60_000);
      assert.deepEqual([reflector.hasSynced, reflector.problem, reflector.silenceMs()], [true, undefined, 0]);
      assert.equal(fake.requests.length, look);
      assert.deepEqual(warnings, ['the CRD diskexports.disklift.dev is not installed; disklift looks for it every minute']);
      if (look === 3) fake.put('a');
      await clock.advance(60_000);
    }
    await until('the object of the CRD that was installed', () => reflector.get('vms/a') !== undefined);
    assert.equal(warnings[1], 'the CRD diskexports.disklift.dev is installed now');
    assert.deepEqual(keys, ['vms/a']);
  });

  it('reports the objects of an optional kind as removed when its CRD is deleted', async () => {
    fake.put('a');
    run({ isOptional: true });
    await until('a watch', () => fake.watches.length === 1);
    fake.refuse('watch', ABSENT);
    fake.refuse('list', ABSENT);
    await clock.advance(2000);
    fake.watches[0]?.end();
    await clock.untilWaiting(500);
    assert.deepEqual([...reflector.keys()], ['vms/a']);
    await clock.advance(500);
    await clock.untilWaiting(60_000);
    assert.deepEqual([...reflector.keys()], []);
    assert.deepEqual(keys, ['vms/a', 'vms/a']);
    await clock.advance(60_000);
    await until('the object', () => reflector.get('vms/a') !== undefined);
  });

  it('counts a required kind whose CRD is absent as a problem, and warns once', async () => {
    fake.refuse('list', ABSENT, ABSENT);
    run({});
    for (const delayMs of [200, 400]) {
      await clock.untilWaiting(delayMs);
      assert.equal(reflector.hasSynced, false);
      assert.match(reflector.problem?.message ?? '', /^list diskexports of vms: the API server does not have it: /);
      await clock.advance(delayMs);
    }
    await until('the list', () => reflector.hasSynced);
    assert.deepEqual(warnings.slice(1), ['the API server answers again']);
  });

  it('caches what `transform` returns, of objects without managedFields', async () => {
    fake.strays.push({ metadata: { name: 'b', namespace: 'vms', uid: 'u', resourceVersion: '1', managedFields: [{}] }, spec: 1 });
    fake.put('a', { spec: { large: 'x' }, status: { phase: 'Queued' } });
    run({ transform: ({ metadata, status }) => ({ metadata, status }) });
    await until('a watch', () => fake.watches.length === 1);
    fake.put('c', { spec: { large: 'x' } });
    await until('the watched object', () => reflector.get('vms/c') !== undefined);
    assert.deepEqual(reflector.get('vms/b'), {
      metadata: { name: 'b', namespace: 'vms', uid: 'u', resourceVersion: '1' },
      status: undefined,
    });
    assert.deepEqual(reflector.get('vms/a')?.status, { phase: 'Queued' });
    for (const key of ['vms/a', 'vms/c']) assert.equal(reflector.get(key)?.spec, undefined);
  });

  it('sends its label selector with each list and watch', async () => {
    const queries: string[] = [];
    const { exports } = createKubeApi({ access, clock, userAgent: 'disklift/test' });
    const resource: ReflectorOptions<ExportObject>['resource'] = {
      description: exports.description,
      list(namespace, options) {
        queries.push(`list ${options?.labelSelector}`);
        return exports.list(namespace, options);
      },
      watch(namespace, options) {
        queries.push(`watch ${options.labelSelector}`);
        return exports.watch(namespace, options);
      },
    };
    run({ resource, labelSelector: 'app=disklift' });
    await until('a watch', () => fake.watches.length === 1);
    assert.equal(fake.watches[0]?.query.get('labelSelector'), 'app=disklift');
    await clock.advance(2000);
    fake.watches[0]?.end();
    await until('the next watch', () => queries.length === 3);
    assert.deepEqual(queries, ['list app=disklift', 'watch app=disklift', 'watch app=disklift']);
  });
});
