/** The contract of every RequestStore. Each implementation calls this with a place where people put requests. */

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '../../src/common/clock.ts';
import { DiskliftError } from '../../src/common/errors.ts';
import { limitStoreCalls } from '../../src/engine/time-limited-store.ts';
import type { DiskExport, DiskExportStatus } from '../../src/resource/disk-export.ts';
import type { Claim, RequestStore, StoredRequest } from '../../src/stores/contract.ts';
import { diskExport, type Manifest } from '../helpers/manifest.ts';
import { until } from '../helpers/until.ts';

export interface RequestStoreScene extends AsyncDisposable {
  namespace: string;
  /** Creates a store as in another process. */
  createStore(): RequestStore;
  /** Creates or changes a request, as a user does. */
  put(manifest: Manifest): Promise<void>;
  edit(manifest: Manifest): Promise<void>;
  remove(name: string): Promise<void>;
  putSecret(name: string, stringData: Record<string, string>): Promise<void>;
  /** The status that users see; undefined if no status exists. */
  statusOf(name: string): Promise<DiskExportStatus | undefined>;
  /**
   * From now on the storage or the API server fails every call, or answers none, until the outage is disposed. Skips
   * the test where that is not possible.
   */
  startOutage(kind: 'fails' | 'hangs', context: Mocha.Context): Promise<AsyncDisposable>;
}

/** Longer than the store and its time limits wait in an outage, with the delays of a busy machine. */
const MAX_END_MS = 10_000;

/** Long enough for a look at the storage, or a request to the API server. */
const OUTAGE_MS = 500;

async function drain(keys: AsyncIterable<string>): Promise<void> {
  for await (const _ of keys);
}

const UPLOAD = { id: 'upload-1', partSize: 5_242_880, fingerprint: 'f' };

const STREAMING: DiskExportStatus = {
  phase: 'Streaming',
  message: 'is sent',
  attempts: 1,
  startTime: '2026-01-01T00:00:00Z',
  executor: { podName: 'pod', nodeName: 'node' },
  disks: [
    { path: 'a.img', attempts: 1, upload: UPLOAD },
    { path: 'b.img', attempts: 0 },
  ],
};

/** Has fewer fields than the other status. */
const DONE: DiskExportStatus = {
  phase: 'Succeeded',
  startTime: '2026-01-01T00:00:00Z',
  completionTime: '2026-01-01T00:01:00Z',
  executor: { podName: 'pod' },
  disks: [{ path: 'a.img', attempts: 1 }],
};

/** @param start makes an empty store */
export function itIsARequestStore(start: () => Promise<RequestStoreScene>): void {
  let scene: RequestStoreScene;
  let end: AbortController;
  let watches: Promise<void>[];

  beforeEach(async () => {
    scene = await start();
    end = new AbortController();
    watches = [];
  });

  afterEach(async () => {
    end.abort(new DiskliftError('Cancelled', 'the test is done'));
    await Promise.all(watches);
    await scene[Symbol.asyncDispose]();
  });

  interface Watched {
    store: RequestStore;
    /** How often the watch has reported each key. */
    seen: Map<string, number>;
  }

  function watch(): Watched {
    const store = scene.createStore();
    const seen = new Map<string, number>();
    watches.push(
      (async () => {
        for await (const key of store.watch(end.signal)) seen.set(key, (seen.get(key) ?? 0) + 1);
      })(),
    );
    return { store, seen };
  }

  const keyOf = (name: string) => `${scene.namespace}/${name}`;
  const manifest = (name: string, spec = {}) => diskExport(name, { http: { url: 'http://sink.example/x' } }, spec);

  function requestOf(stored: StoredRequest | undefined): DiskExport {
    assert.equal(stored?.kind, 'request', JSON.stringify(stored));
    return (stored as { request: DiskExport }).request;
  }

  async function put(watched: Watched, name: string, spec = {}): Promise<string> {
    await scene.put(manifest(name, spec));
    await until('the key', () => watched.seen.has(keyOf(name)));
    return keyOf(name);
  }

  it('lists existing requests, and reports new, changed and deleted ones', async () => {
    await scene.put(manifest('a'));
    const watched = watch();
    await until('the existing request', () => watched.seen.has(keyOf('a')));
    const b = await put(watched, 'b');
    const { spec, status } = requestOf(await watched.store.get(b));
    assert.deepEqual([spec.backoffLimit, spec.cancel, status], [8, false, undefined]);
    await scene.edit(manifest('b', { cancel: true }));
    await until('the change', async () => requestOf(await watched.store.get(b)).spec.cancel);
    await scene.remove('b');
    await until('the end', async () => (await watched.store.get(b)) === undefined);
    assert.equal(await watched.store.get(keyOf('never')), undefined);
  });

  it('lets one process at a time work on a request', async () => {
    const watched = watch();
    const key = await put(watched, 'a');
    const claim = (await watched.store.claim(key)) ?? assert.fail();
    await claim.assertHeld();
    assert.equal(await watched.store.claim(key), undefined);
    assert.equal(await scene.createStore().claim(key), undefined);
    await claim.release();
    await claim.release();
    await assert.rejects(claim.assertHeld(), { code: 'ExecutorLost' });
    const again = (await watched.store.claim(key)) ?? assert.fail('it is free');
    await again.release();
  });

  it('gives a request one creation time, before and after the first status and in another process', async () => {
    const watched = watch();
    const key = await put(watched, 'a');
    const { creationTimestamp } = requestOf(await watched.store.get(key)).metadata;
    assert.ok(Math.abs(Date.parse(creationTimestamp ?? '') - Date.now()) < 60_000, creationTimestamp);
    await new Promise((resolve) => setTimeout(resolve, 1100));
    const claim = await watched.store.claim(key);
    assert.equal(requestOf(await watched.store.get(key)).metadata.creationTimestamp, creationTimestamp);
    await watched.store.writeStatus(key, STREAMING);
    assert.equal(requestOf(await watched.store.get(key)).metadata.creationTimestamp, creationTimestamp);
    await claim?.release();
    const next = watch();
    await until('the key', () => next.seen.has(key));
    assert.equal(requestOf(await next.store.get(key)).metadata.creationTimestamp, creationTimestamp);
  });

  it('returns the status as it was last written, without fields of an earlier one', async () => {
    const watched = watch();
    const key = await put(watched, 'a');
    const claim = await watched.store.claim(key);
    for (const status of [STREAMING, DONE]) {
      await watched.store.writeStatus(key, status);
      for (const found of [requestOf(await watched.store.get(key)).status, await scene.statusOf('a')]) {
        const { observedGeneration: _, ...rest } = found ?? {};
        assert.deepEqual(rest, status);
      }
    }
    await claim?.release();
    assert.equal(requestOf(await watched.store.get(key)).status?.phase, 'Succeeded');
  });

  it('refuses a status that the schema does not accept with an error that is not retryable, and keeps the earlier one', async () => {
    const watched = watch();
    const key = await put(watched, 'a');
    const claim = await watched.store.claim(key);
    await watched.store.writeStatus(key, STREAMING);
    await assert.rejects(watched.store.writeStatus(key, { ...STREAMING, message: 'x'.repeat(40_000) }), {
      code: 'StoreRefused',
      retryable: false,
    });
    assert.equal((await scene.statusOf('a'))?.message, STREAMING.message);
    await claim?.release();
  });

  it('keeps a deleted request until its open upload is dropped', async () => {
    const watched = watch();
    const key = await put(watched, 'a');
    const claim = (await watched.store.claim(key)) ?? assert.fail();
    await watched.store.writeStatus(key, STREAMING);
    await watched.store.setCleanupPending(key, true);
    await watched.store.setCleanupPending(key, true);
    await scene.remove('a');
    await until('it is being deleted', async () => {
      const stored = await watched.store.get(key);
      return stored?.kind === 'request' && stored.isTerminating;
    });
    assert.deepEqual(requestOf(await watched.store.get(key)).status?.disks?.[0]?.upload, UPLOAD);
    await watched.store.setCleanupPending(key, false);
    await until('it is gone', async () => (await watched.store.get(key)) === undefined);
    await claim.release();
    await until('its status is gone', async () => (await scene.statusOf('a')) === undefined);
  });

  it('shows a new request of the same name only after the work on the old one has ended', async () => {
    const watched = watch();
    const key = await put(watched, 'a');
    const claim = (await watched.store.claim(key)) ?? assert.fail();
    await watched.store.writeStatus(key, STREAMING);
    await scene.remove('a');
    await until('it is gone', async () => (await watched.store.get(key)) === undefined);
    await scene.put(manifest('a', { backoffLimit: 3 }));
    const before = watched.seen.get(key) ?? 0;
    await watched.store.writeStatus(key, DONE);
    await claim.release();
    await until('the new one', async () => (await watched.store.get(key)) !== undefined && (watched.seen.get(key) ?? 0) > before);
    const { spec, status } = requestOf(await watched.store.get(key));
    assert.deepEqual([spec.backoffLimit, status], [3, undefined]);
  });

  it('removes a request that has ended', async () => {
    const watched = watch();
    const key = await put(watched, 'a');
    const claim = await watched.store.claim(key);
    await watched.store.writeStatus(key, DONE);
    await claim?.release();
    await watched.store.remove(key);
    await until('it is gone', async () => (await watched.store.get(key)) === undefined);
    await until('the status is removed for users', async () => (await scene.statusOf('a')) === undefined);
  });

  it('reads the current content of a Secret of its namespace', async () => {
    const { store } = watch();
    const reference = { kind: 'Secret', namespace: scene.namespace, name: 'keys' } as const;
    assert.equal(await store.resolve(reference), undefined);
    await scene.putSecret('keys', { user: 'one' });
    await until('the Secret', async () => (await store.resolve(reference)) !== undefined);
    const secret = await store.resolve(reference);
    assert.deepEqual([secret?.data.user?.toString(), secret?.labels['disklift.dev/credentials']], ['one', 'true']);
  });

  interface Served {
    raw: RequestStore;
    key: string;
    claim: Claim;
    /** Ends the process as SIGTERM does. */
    stop(): void;
    /** Ends when the watch has ended. */
    watching: Promise<void>;
  }

  /** Claims a request by the calls of the engine, which have time limits. */
  async function serve(): Promise<Served> {
    const raw = scene.createStore();
    const stopping = new AbortController();
    const store = limitStoreCalls(raw, { clock: systemClock, stopping: stopping.signal, observers: [], warn: () => {} });
    const claimed = Promise.withResolvers<Claim>();
    const watching = (async () => {
      for await (const key of store.watch(stopping.signal)) {
        const claim = await store.claim(key);
        if (claim !== undefined) claimed.resolve(claim);
      }
      store.close();
    })();
    watching.catch(claimed.reject);
    await scene.put(manifest('a'));
    const stop = () => stopping.abort(new DiskliftError('Cancelled', 'the process ends'));
    return { raw, key: keyOf('a'), claim: await claimed.promise, stop, watching };
  }

  for (const kind of ['fails', 'hangs'] as const)
    describe(`on storage or an API server that ${kind}`, () => {
      it('watches on without a failure, and reports what comes after the outage', async function () {
        const watched = watch();
        await put(watched, 'a');
        {
          await using _outage = await scene.startOutage(kind, this);
          await sleep(OUTAGE_MS);
        }
        await put(watched, 'b');
      });

      it('ends the watch and the claim in time and without a failure, and the request can be claimed afterwards', async function () {
        const { raw, key, claim, stop, watching } = await serve();
        {
          await using _outage = await scene.startOutage(kind, this);
          await sleep(OUTAGE_MS);
          const startMs = performance.now();
          stop();
          await Promise.all([claim.release(), watching]);
          const tookMs = performance.now() - startMs;
          assert.ok(tookMs < MAX_END_MS, `${tookMs} ms`);
        }
        watches.push(drain(raw.watch(end.signal)));
        let again: Claim | undefined;
        await until('it is free', async () => {
          again = await raw.claim(key);
          return again !== undefined;
        });
        await again?.release();
      });
    });

  it('releases a claim without a failure on storage or an API server that fails, also where no time limit hides one', async function () {
    const { raw, key, claim, stop, watching } = await serve();
    stop();
    await watching;
    await claim.release();
    const own = (await raw.claim(key)) ?? assert.fail('it is free');
    await using _outage = await scene.startOutage('fails', this);
    await own.release();
  });

  it('accepts events with any text', async () => {
    const watched = watch();
    const key = await put(watched, 'a');
    await watched.store.recordEvent(key, { type: 'Normal', reason: 'Started', message: 'begins' });
    await watched.store.recordEvent(keyOf('never'), { type: 'Warning', reason: 'Failed', message: 'no such request' });
  });
}
