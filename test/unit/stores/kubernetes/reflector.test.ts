import assert from 'node:assert/strict';
import { createReflector, type RunningReflector } from '../../../../src/stores/kubernetes/cache/reflector.ts';
import type { ApiAccess } from '../../../../src/stores/kubernetes/client/api-access.ts';
import { createKubeApi } from '../../../../src/stores/kubernetes/client/kube-api.ts';
import type { ExportObject } from '../../../../src/stores/kubernetes/client/objects.ts';
import { type FakeApiServer, startFakeApiServer } from '../../../helpers/fake-api-server.ts';
import { createManualClock, type ManualClock } from '../../../helpers/manual-clock.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';
import { until } from '../../../helpers/until.ts';

/** Time limit of the client. */
const ANSWER_LIMIT_MS = 15_000;

describe('the reflector', () => {
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
    end = new AbortController();
    [keys, warnings] = [[], []];
    reflector = createReflector({
      resource: createKubeApi({ access, clock, userAgent: 'disklift/test' }).exports,
      namespace: 'vms',
      onKey: (key) => keys.push(key),
      clock,
      random: () => 0.4,
      warn: (message) => warnings.push(message),
    });
  });

  afterEach(async () => {
    end.abort();
    await ended;
    await access.close();
    await fake[Symbol.asyncDispose]();
  });

  function run(): void {
    ended = reflector.run(end.signal);
  }

  /** The watch that is open, at both ends, after so many have been asked for. */
  async function watch(count: number) {
    const asked = () => fake.requests.filter((request) => request === 'watch').length;
    const isOpen = () => fake.watches.length === 1 && !clock.isAwaited(ANSWER_LIMIT_MS);
    await until(`watch number ${count}`, () => asked() === count && isOpen() && reflector.problem === undefined);
    return fake.watches[0] as FakeApiServer['watches'][0];
  }

  /** Waits until the reflector waits, and has it wait no longer. */
  async function passBackoff(delayMs: number): Promise<void> {
    await clock.untilWaiting(delayMs);
    await clock.advance(delayMs);
  }

  async function untilKnown(key: string, version: string | undefined): Promise<void> {
    await until(`${key} is ${version}`, () => reflector.get(key)?.metadata.resourceVersion === version);
  }

  it('lists, and reports objects that were added, changed and removed', async () => {
    fake.put('a');
    run();
    await watch(1);
    assert.deepEqual(keys, ['vms/a']);
    assert.ok(reflector.hasSynced);
    fake.put('b', { spec: 1 });
    fake.put('b', { spec: 2 });
    await untilKnown('vms/b', '103');
    fake.remove('a');
    await untilKnown('vms/a', undefined);
    assert.deepEqual(keys, ['vms/a', 'vms/b', 'vms/b', 'vms/a']);
    assert.deepEqual([...reflector.keys()], ['vms/b']);
    assert.equal(reflector.get('vms/b')?.spec, 2);
    assert.deepEqual(fake.requests, ['list', 'watch']);
  });

  it('lists pages of a large namespace', async () => {
    fake.pageSize = 2;
    for (const name of ['a', 'b', 'c', 'd', 'e']) fake.put(name);
    run();
    await watch(1);
    assert.equal(keys.length, 5);
    assert.equal(fake.watches[0]?.query.get('resourceVersion'), '105');
  });

  it('goes on from the last event when a watch ends, and misses nothing', async () => {
    run();
    const first = await watch(1);
    fake.put('a');
    await untilKnown('vms/a', '101');
    first.end();
    const second = await watch(2);
    assert.equal(second.query.get('resourceVersion'), '101');
    assert.deepEqual(fake.requests, ['list', 'watch', 'watch']);
    assert.deepEqual(warnings, []);
  });

  it('goes on from a bookmark', async () => {
    run();
    const first = await watch(1);
    first.send('BOOKMARK', { kind: 'DiskExport', metadata: { resourceVersion: '150' } });
    first.end();
    const second = await watch(2);
    assert.equal(second.query.get('resourceVersion'), '150');
    assert.deepEqual(keys, []);
  });

  it('survives a connection that is cut in the middle of an event', async () => {
    run();
    const first = await watch(1);
    first.write('{"type":"ADDED","object":{"metadata":{"name":"half","nam');
    first.cut();
    await passBackoff(200);
    fake.put('a');
    await untilKnown('vms/a', '101');
    assert.deepEqual([...reflector.keys()], ['vms/a']);
    assert.deepEqual(fake.requests, ['list', 'watch', 'watch']);
  });

  it('reads events whose bytes come one by one', async () => {
    run();
    const first = await watch(1);
    const object = { metadata: { name: 'a', namespace: 'vms', uid: 'u', resourceVersion: '101' }, spec: 'größer' };
    for (const byte of Buffer.from(`${JSON.stringify({ type: 'ADDED', object })}\n`)) first.response.write(Buffer.of(byte));
    await untilKnown('vms/a', '101');
    assert.equal(reflector.get('vms/a')?.spec, 'größer');
  });

  it('lists anew when its version is not kept any more: HTTP 410', async () => {
    fake.put('a');
    run();
    const first = await watch(1);
    fake.compact();
    await clock.advance(2000);
    first.end();
    await until('a second list', () => fake.requests.filter((request) => request === 'list').length === 2);
    assert.deepEqual(fake.requests.slice(0, 4), ['list', 'watch', 'watch', 'list']);
    await watch(3);
    assert.deepEqual(warnings, []);
    assert.deepEqual(keys, ['vms/a', 'vms/a']);
  });

  it('lists anew when a watch says so: an ERROR of 410', async () => {
    fake.put('a');
    run();
    const first = await watch(1);
    // The event of this deletion is lost.
    const [lost] = fake.watches.splice(0);
    fake.remove('a');
    lost?.send('ERROR', { kind: 'Status', code: 410, reason: 'Expired', message: 'too old resource version' });
    assert.equal(lost, first);
    await untilKnown('vms/a', undefined);
    await until('a second watch', () => fake.requests.length === 4);
    assert.deepEqual(fake.requests, ['list', 'watch', 'list', 'watch']);
    assert.deepEqual(keys, ['vms/a', 'vms/a']);
  });

  it('backs off from a server that fails, further each time, and says so once', async () => {
    fake.put('a');
    const failure = { status: 500, body: { message: 'etcd is away' } };
    fake.refuse('list', failure, failure, failure);
    run();
    for (const delayMs of [200, 400, 800]) {
      await clock.untilWaiting(delayMs);
      assert.match(reflector.problem?.message ?? '', /etcd is away/);
      assert.ok(!reflector.hasSynced);
      await clock.advance(delayMs);
    }
    await watch(1);
    assert.deepEqual(keys, ['vms/a']);
    assert.equal(warnings.length, 2, warnings.join('\n'));
    assert.match(warnings[1] as string, /answers again/);
  });

  it('never waits longer than half a minute', async () => {
    fake.refuse('list', ...Array.from({ length: 12 }, () => ({ status: 503 })));
    run();
    for (const delayMs of [200, 400, 800, 1600, 3200, 6400]) await passBackoff(delayMs);
    for (let more = 0; more < 6; more += 1) await passBackoff(12_000);
    await watch(1);
  });

  it('waits as long as it is asked to: 429', async () => {
    fake.refuse('list', { status: 429, headers: { 'retry-after': '7' } });
    fake.refuse('watch', { status: 429, headers: { 'retry-after': '9' } });
    run();
    await passBackoff(7000);
    await passBackoff(9000);
    await watch(2);
    assert.deepEqual(fake.requests, ['list', 'list', 'watch', 'watch']);
  });

  it('cuts a watch that is silent for longer than it may last', async () => {
    run();
    await watch(1);
    assert.equal(fake.watches[0]?.query.get('timeoutSeconds'), '168');
    await clock.advance(182_999);
    assert.equal(fake.watches.length, 1);
    await clock.advance(1);
    await passBackoff(200);
    await watch(2);
    assert.match(warnings[0] as string, /silent for longer than 168 s/);
    assert.deepEqual(fake.requests, ['list', 'watch', 'watch']);
  });

  it('does not ask without a pause when each watch ends at once', async () => {
    run();
    for (const [index, delayMs] of [200, 400].entries()) {
      (await watch(index + 1)).end();
      await passBackoff(delayMs);
    }
    (await watch(3)).end();
    await passBackoff(800);
    await watch(4);
    assert.equal(fake.requests.filter((request) => request === 'list').length, 2, 'then a list has to set it right');
  });

  it('lists every 10 minutes, and finds what no event has told', async () => {
    fake.put('a');
    run();
    for (let count = 1; count <= 3; count += 1) {
      const open = await watch(count);
      await clock.advance(168_000);
      open.send('BOOKMARK', { metadata: { resourceVersion: '101' } });
      open.end();
    }
    const last = await watch(4);
    assert.equal(last.query.get('timeoutSeconds'), '96');
    fake.watches.splice(0);
    fake.remove('a');
    await clock.advance(96_000);
    last.end();
    await untilKnown('vms/a', undefined);
    assert.deepEqual(fake.requests.slice(0, 6), ['list', 'watch', 'watch', 'watch', 'watch', 'list']);
  });

  it('leaves objects alone that make no sense, and says so once', async () => {
    fake.put('a');
    fake.strays.push(
      null,
      { metadata: { name: 'odd', namespace: 'vms' } },
      { metadata: { name: 'b', namespace: 'other', uid: 'u', resourceVersion: '1' } },
    );
    run();
    const first = await watch(1);
    assert.deepEqual(keys, ['vms/a']);
    first.send('ADDED', { metadata: { name: 'odd', namespace: 'vms' } });
    first.send('MODIFIED', { metadata: { name: 'a', namespace: 'vms', resourceVersion: '130' } });
    await untilKnown('vms/a', undefined);
    fake.put('c');
    await untilKnown('vms/c', '102');
    assert.deepEqual(keys, ['vms/a', 'vms/a', 'vms/c']);
    assert.equal(warnings.filter((message) => message.includes('vms/odd')).length, 1);
    assert.equal(warnings.length, 4, warnings.join('\n'));
  });

  it('gets over a line that is not JSON', async () => {
    fake.put('a');
    run();
    for (const [index, delayMs] of [200, 400, 800].entries()) {
      (await watch(index + 1)).write('{"type": oh\n');
      await passBackoff(delayMs);
    }
    await watch(4);
    assert.deepEqual(fake.requests, ['list', 'watch', 'watch', 'watch', 'list', 'watch']);
    assert.equal(warnings.length, 2);
  });

  it('measures the silence of the API server by a monotonic clock', async () => {
    assert.equal(reflector.silenceMs(), undefined);
    run();
    await watch(1);
    await clock.advance(5000);
    clock.setWallClock(3_600_000);
    assert.equal(reflector.silenceMs(), 5000);
  });

  it('reports the time of the last answer of the API server', async () => {
    assert.equal(reflector.lastSuccessMs(), undefined);
    run();
    const first = await watch(1);
    const startMs = clock.nowMs();
    assert.equal(reflector.lastSuccessMs(), startMs);
    await clock.advance(5000);
    assert.equal(reflector.lastSuccessMs(), startMs);
    first.send('BOOKMARK', { metadata: { resourceVersion: '150' } });
    await until('the bookmark', () => reflector.lastSuccessMs() === startMs + 5000);
    await clock.advance(3000);
    first.end();
    await watch(2);
    assert.equal(reflector.lastSuccessMs(), startMs + 8000);
  });

  for (const [sentence, prepare] of [
    ['a watch', () => watch(1)],
    [
      'a list that is not answered',
      async () => {
        fake.refuse('list', { hang: true });
        await until('the list', () => fake.requests.length === 1);
      },
    ],
    [
      'a pause',
      async () => {
        fake.refuse('list', { status: 500 });
        await clock.untilWaiting(200);
      },
    ],
  ] as const)
    it(`ends at once in ${sentence}`, async () => {
      const prepared = prepare();
      run();
      await prepared;
      end.abort();
      await ended;
      assert.deepEqual(
        warnings.filter((message) => !message.includes('500')),
        [],
      );
    });
});
