import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  appendFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parse, stringify } from 'yaml';
import { systemClock } from '../../../../src/common/clock.ts';
import { DiskliftError } from '../../../../src/common/errors.ts';
import type { DiskExport, DiskExportStatus } from '../../../../src/resource/disk-export.ts';
import type { RequestStore, StoredRequest } from '../../../../src/stores/contract.ts';
import { createDirectoryStore } from '../../../../src/stores/directory/directory-store.ts';
import { changed } from '../../../fixtures/request-table.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';

const SETTLE_MS = 150;
/** Where a file must not be left alone for so long by accident, on a machine that is busy. */
const LONG_SETTLE_MS = 1000;
const LIMIT_MS = 5000;

/** A store that is watched until the test ends, and what it has told. */
interface Watched {
  store: RequestStore;
  warnings: string[];
  /** How often each key has come. */
  seen: Map<string, number>;
  stop(): Promise<void>;
}

describe('directory store', () => {
  const inTemp = useTempDir();
  const running: Watched[] = [];
  let directory: string;

  beforeEach(() => {
    directory = inTemp('requests');
    mkdirSync(directory);
  });

  afterEach(async () => {
    for (const watched of running.splice(0)) await watched.stop();
  });

  function watch(settleMs = SETTLE_MS): Watched {
    const warnings: string[] = [];
    const seen = new Map<string, number>();
    const warn = (message: string) => void warnings.push(message);
    const store = createDirectoryStore({ directory, clock: systemClock, warn, pollMs: 40, settleMs });
    const end = new AbortController();
    const ended = (async () => {
      for await (const key of store.watch(end.signal)) seen.set(key, (seen.get(key) ?? 0) + 1);
    })();
    const stop = async () => {
      end.abort(new DiskliftError('Cancelled', 'the test is done'));
      await ended;
    };
    const watched = { store, warnings, seen, stop };
    running.push(watched);
    return watched;
  }

  /** Waits for a state, with a limit that only a failure reaches. */
  async function until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
    for (const endMs = performance.now() + LIMIT_MS; !(await isSo()); await delay(10))
      assert.ok(performance.now() < endMs, `in vain waited for: ${what}`);
  }

  /** Long enough for everything that has changed to have been believed. */
  const aWhile = () => delay(SETTLE_MS * 3);

  function manifest(name: string, change = {}): string {
    return stringify(changed({ 'metadata.name': name, 'metadata.namespace': 'vms', ...change }));
  }

  function put(file: string, text: string): void {
    writeFileSync(path.join(directory, file), text);
  }

  function read(file: string): string {
    return readFileSync(path.join(directory, file), 'utf8');
  }

  const files = () =>
    readdirSync(directory)
      .filter((name) => !name.endsWith('.lock'))
      .sort();

  function requestOf(stored: StoredRequest | undefined): DiskExport {
    assert.equal(stored?.kind, 'request', JSON.stringify(stored));
    return (stored as { request: DiskExport }).request;
  }

  const status = (phase: DiskExportStatus['phase']): DiskExportStatus => ({ ...(phase === undefined ? {} : { phase }), attempts: 1 });

  /** A request that an executor has begun with. */
  async function accepted(watched: Watched, name = 'a', change = {}): Promise<void> {
    put(`${name}.yaml`, manifest(name, change));
    await until('the key', () => watched.seen.has(`vms/${name}`));
    await watched.store.get(`vms/${name}`);
    await watched.store.writeStatus(`vms/${name}`, status('Streaming'));
  }

  describe('watch', () => {
    it('gives what is there, what comes, what changes and what goes', async () => {
      put('a.yaml', manifest('a'));
      put('c.json', JSON.stringify(changed({ 'metadata.name': 'c' })));
      put('notes.txt', manifest('not-a-manifest'));
      const { store, seen } = watch();
      await until('what is there', () => seen.has('vms/a') && seen.has('default/c'));
      put('b.yml', manifest('b'));
      await until('what comes', () => seen.has('vms/b'));
      put('a.yaml', manifest('a', { 'spec.cancel': true }));
      await until('what changes', () => seen.get('vms/a') === 2);
      assert.equal(requestOf(await store.get('vms/a')).spec.cancel, true);
      unlinkSync(path.join(directory, 'b.yml'));
      await until('what goes', () => seen.get('vms/b') === 2);
      assert.equal(await store.get('vms/b'), undefined);
      assert.deepEqual([...seen.keys()].sort(), ['default/c', 'vms/a', 'vms/b']);
    });

    it('ends within a poll after the abort', async () => {
      const watched = watch();
      await aWhile();
      const startMs = performance.now();
      await watched.stop();
      assert.ok(performance.now() - startMs < 500);
    });

    it('finds two hundred manifests in a file each and in one file', async () => {
      for (let index = 0; index < 200; index += 1) put(`${index}.yaml`, manifest(`one-${index}`));
      put('many.yaml', Array.from({ length: 200 }, (_, index) => manifest(`many-${index}`)).join('---\n'));
      const { seen, warnings } = watch();
      await until('all of them', () => seen.size === 400);
      assert.ok([...seen.values()].every((count) => count === 1));
      assert.deepEqual(warnings, []);
    });

    it('takes a file that is written byte by byte when it is done, and not before', async () => {
      const { store, seen, warnings } = watch(LONG_SETTLE_MS);
      const text = manifest('slow', { 'spec.backoffLimit': 12 });
      const file = path.join(directory, 'slow.yaml');
      for (const byte of text) {
        appendFileSync(file, byte);
        assert.equal(seen.size, 0);
        await delay(1);
      }
      await until('the key', () => seen.has('vms/slow'));
      assert.equal(requestOf(await store.get('vms/slow')).spec.backoffLimit, 12);
      assert.deepEqual(warnings, []);
    });

    it('does not mind editors that delete and rename', async () => {
      const watched = watch(LONG_SETTLE_MS);
      await accepted(watched);
      const { store, seen } = watched;
      const file = path.join(directory, 'a.yaml');
      for (let round = 0; round < 5; round += 1) {
        renameSync(file, `${file}~`);
        await delay(50);
        put('.a.yaml.swp', 'half');
        renameSync(path.join(directory, '.a.yaml.swp'), file);
        put('a.yaml', manifest('a'));
        unlinkSync(`${file}~`);
        assert.equal(requestOf(await store.get('vms/a')).status?.phase, 'Streaming');
        await delay(50);
      }
      renameSync(file, path.join(directory, 'other-name.yaml'));
      await delay(LONG_SETTLE_MS * 1.5);
      assert.equal(seen.get('vms/a'), 1, 'the request has not changed at any time');
      assert.equal(requestOf(await store.get('vms/a')).status?.phase, 'Streaming');
    });

    it('keeps a request whose manifest has become unreadable, and says so', async () => {
      const watched = watch();
      await accepted(watched);
      put('a.yaml', 'kind: [');
      await until('a warning', () => watched.warnings.length > 0);
      assert.match(watched.warnings.join(), /^a\.yaml: line 1: is not YAML .*still counts$/);
      assert.equal(requestOf(await watched.store.get('vms/a')).status?.phase, 'Streaming');
    });

    it('keeps a request whose file was emptied, as by a disk that is full', async () => {
      const watched = watch();
      await accepted(watched);
      put('a.yaml', '');
      await until('a warning', () => watched.warnings.length > 0);
      assert.equal(requestOf(await watched.store.get('vms/a')).status?.phase, 'Streaming');
      put('a.yaml', manifest('b'));
      await until('the keys', () => watched.seen.has('vms/b') && watched.seen.get('vms/a') === 2);
      assert.equal(await watched.store.get('vms/a'), undefined);
    });

    it('survives a directory that is missing for a while', async () => {
      const watched = watch();
      await accepted(watched);
      renameSync(directory, `${directory}-away`);
      await aWhile();
      assert.equal(requestOf(await watched.store.get('vms/a')).metadata.name, 'a', 'nothing was deleted');
      assert.equal(watched.warnings.length, 1);
      renameSync(`${directory}-away`, directory);
      await accepted(watched, 'b');
      assert.equal(watched.seen.get('vms/a'), 1);
      rmSync(directory, { recursive: true });
      await aWhile();
      mkdirSync(directory);
      put('b.yaml', manifest('b'));
      put('c.yaml', manifest('c'));
      await until('the new one and that the old one is gone', () => watched.seen.has('vms/c') && watched.seen.get('vms/a') === 2);
      await accepted(watched, 'c');
    });

    it('is not held up by what is no manifest', async () => {
      assert.equal(spawnSync('mkfifo', [path.join(directory, 'pipe.yaml')]).status, 0);
      mkdirSync(path.join(directory, 'folder.yaml'));
      symlinkSync('/dev/zero', path.join(directory, 'zero.yaml'));
      symlinkSync('loop.yaml', path.join(directory, 'loop.yaml'));
      symlinkSync('nowhere.yaml', path.join(directory, 'nowhere-to-go.yaml'));
      const secret = inTemp('outside.yaml');
      writeFileSync(secret, manifest('outside'));
      symlinkSync(secret, path.join(directory, 'outside.yaml'));
      put('huge.yaml', `${manifest('huge')}#${'x'.repeat(2 ** 20)}`);
      put('good.yaml', manifest('good'));
      const { seen, warnings } = watch();
      await until('the good one', () => seen.has('vms/good'));
      await aWhile();
      assert.deepEqual([...seen.keys()], ['vms/good']);
      for (const name of ['pipe', 'folder', 'zero', 'loop', 'outside', 'huge'])
        assert.equal(warnings.filter((warning) => warning.startsWith(`${name}.yaml: `)).length, 1, `${name} in ${warnings.join('\n')}`);
    });

    it('follows the links that a mounted ConfigMap consists of', async () => {
      const version = (name: string, text: string) => {
        mkdirSync(path.join(directory, name));
        put(`${name}/a.yaml`, text);
        symlinkSync(name, path.join(directory, '..data_tmp'));
        renameSync(path.join(directory, '..data_tmp'), path.join(directory, '..data'));
      };
      version('..1', manifest('a'));
      symlinkSync('..data/a.yaml', path.join(directory, 'a.yaml'));
      const { store, seen } = watch();
      await until('the key', () => seen.has('vms/a'));
      version('..2', manifest('a', { 'spec.ttlSecondsAfterFinished': 5 }));
      await until('the change', () => seen.get('vms/a') === 2);
      assert.equal(requestOf(await store.get('vms/a')).spec.ttlSecondsAfterFinished, 5);
    });
  });

  describe('get', () => {
    it('says what is wrong with a request, and takes it once it is right', async () => {
      const { store, seen } = watch();
      put('a.yaml', manifest('a', { 'spec.image.clusterSize': 1000 }));
      await until('the key', () => seen.has('vms/a'));
      assert.deepEqual(await store.get('vms/a'), {
        kind: 'invalid',
        message: 'a.yaml: spec.image.clusterSize: must be a power of two from 512 to 2Mi, such as 64Ki (64K is 64000)',
        status: undefined,
      });
      await store.writeStatus('vms/a', status('Failed'));
      assert.partialDeepStrictEqual(await store.get('vms/a'), { kind: 'invalid', status: { phase: 'Failed' } });
      put('a.yaml', manifest('a'));
      await until('the change', () => seen.get('vms/a') === 2);
      assert.equal(requestOf(await store.get('vms/a')).status, undefined, 'the failure was of another spec');
    });

    it('takes the first of two manifests with one name, and says which file has it', async () => {
      put('a.yaml', manifest('same'));
      const { store, seen, warnings } = watch();
      await until('the key', () => seen.has('vms/same'));
      put('0.yaml', manifest('same', { 'spec.backoffLimit': 1 }));
      await until('a warning', () => warnings.length > 0);
      assert.deepEqual(warnings, ['0.yaml: DiskExport vms/same is ignored: a.yaml has it already']);
      assert.equal(requestOf(await store.get('vms/same')).spec.backoffLimit, 8);
    });

    it('ignores a request without a name that a file could have', async () => {
      put('a.yaml', manifest('../a'));
      put('b.yaml', manifest('b', { 'metadata.namespace': '..' }));
      const { seen, warnings } = watch();
      await until('warnings', () => warnings.length === 2);
      assert.equal(seen.size, 0);
    });

    it('refuses an edit as the API server would, across a restart as well', async () => {
      const first = watch();
      await accepted(first);
      put('a.yaml', manifest('a', { 'spec.backoffLimit': 99, 'metadata.labels': { a: 'b' } }));
      await until('the change', () => first.seen.get('vms/a') === 2);
      const { spec, metadata } = requestOf(await first.store.get('vms/a'));
      assert.equal(spec.backoffLimit, 8);
      assert.equal(metadata.generation, 1);
      assert.match(first.warnings.join(), /a\.yaml: spec\.backoffLimit: cannot be changed.*ignored.*another name/);
      await first.stop();

      const second = watch();
      await until('the key', () => second.seen.has('vms/a'));
      const again = requestOf(await second.store.get('vms/a'));
      assert.deepEqual(again.spec, spec);
      assert.deepEqual(again.metadata, { ...metadata, labels: { a: 'b' } });
      assert.equal(again.status?.phase, 'Streaming');
      assert.equal(second.warnings.length, 1);
    });

    it('lets an export be cancelled whatever else was edited, and not be taken back', async () => {
      const { store, seen, warnings, ...rest } = watch();
      await accepted({ store, seen, warnings, ...rest });
      put('a.yaml', manifest('a', { 'spec.backoffLimit': 99, 'spec.cancel': true, 'spec.ttlSecondsAfterFinished': 60 }));
      await until('the change', () => seen.get('vms/a') === 2);
      const cancelled = requestOf(await store.get('vms/a'));
      assert.partialDeepStrictEqual(cancelled.spec, { backoffLimit: 8, cancel: true, ttlSecondsAfterFinished: 60 });
      assert.equal(cancelled.metadata.generation, 2);
      await store.writeStatus('vms/a', status('Cancelled'));
      put('a.yaml', manifest('a'));
      await until('the change back', () => seen.get('vms/a') === 3);
      const still = requestOf(await store.get('vms/a'));
      assert.equal(still.spec.cancel, true);
      assert.equal(still.spec.ttlSecondsAfterFinished, undefined);
      assert.equal(still.metadata.generation, 3);
    });
  });

  describe('writeStatus', () => {
    it('writes a document beside the manifest that says whose it is', async () => {
      const watched = watch();
      await accepted(watched);
      const { metadata } = requestOf(await watched.store.get('vms/a'));
      assert.deepEqual(parse(read('a.status.yaml')), {
        apiVersion: 'disklift.dev/v1alpha1',
        kind: 'DiskExport',
        metadata: { name: 'a', namespace: 'vms', uid: metadata.uid },
        status: { phase: 'Streaming', attempts: 1 },
      });
      assert.deepEqual(files(), ['.a.accepted.json', 'a.status.yaml', 'a.yaml']);
      assert.equal(statSync(path.join(directory, '.a.accepted.json')).mode & 0o777, 0o600);
    });

    it('is never seen half done', async () => {
      const watched = watch();
      await accepted(watched);
      let isDone = false;
      const writing = (async () => {
        const message = 'x'.repeat(20_000);
        for (let attempts = 0; attempts < 40; attempts += 1) await watched.store.writeStatus('vms/a', { attempts, message });
        isDone = true;
      })();
      let reads = 0;
      for (; !isDone; reads += 1) {
        assert.ok(parse(read('a.status.yaml')).status !== undefined);
        await delay(0);
      }
      await writing;
      assert.ok(reads > 10);
    });

    it('keeps apart what has the same name in two namespaces', async () => {
      const { store, seen } = watch();
      put('a.yaml', `${manifest('x')}---\n${manifest('x', { 'metadata.namespace': 'other' })}`);
      await until('both keys', () => seen.size === 2);
      await store.writeStatus('vms/x', { message: 'of vms' });
      await store.writeStatus('other/x', { message: 'of other' });
      assert.equal(parse(read('x.status.yaml')).status.message, 'of vms');
      assert.equal(parse(read('other.x.status.yaml')).status.message, 'of other');
      assert.equal(requestOf(await store.get('other/x')).status?.message, 'of other');
    });

    it('is believed where it was copied without the hidden file beside it, unless it is of another request', async () => {
      const first = watch();
      await accepted(first);
      await first.stop();
      unlinkSync(path.join(directory, '.a.accepted.json'));
      const second = watch();
      await until('the key', () => second.seen.has('vms/a'));
      assert.equal(requestOf(await second.store.get('vms/a')).status?.phase, 'Streaming');
      put('a.yaml', manifest('a', { 'metadata.uid': 'another' }));
      await until('the change', () => second.seen.get('vms/a') === 2);
      assert.equal(requestOf(await second.store.get('vms/a')).status, undefined);
    });

    it('has room for the longest name', async () => {
      const watched = watch();
      const name = 'n'.repeat(253);
      put('long.yaml', manifest(name));
      await until('the key', () => watched.seen.has(`vms/${name}`));
      await watched.store.writeStatus(`vms/${name}`, status('Streaming'));
      assert.equal(requestOf(await watched.store.get(`vms/${name}`)).status?.phase, 'Streaming');
    });

    it('is no use when somebody has damaged it, and does no harm', async () => {
      const watched = watch();
      await accepted(watched);
      for (const text of ['', 'kind: [', 'status: {attempts: many}', '\0']) {
        put('a.status.yaml', text);
        assert.equal(requestOf(await watched.store.get('vms/a')).status, undefined);
      }
      await watched.store.writeStatus('vms/a', status('Succeeded'));
      assert.equal(requestOf(await watched.store.get('vms/a')).status?.phase, 'Succeeded');
    });
  });

  describe('a deleted request', () => {
    it('takes its status with it', async () => {
      const watched = watch();
      await accepted(watched);
      unlinkSync(path.join(directory, 'a.yaml'));
      await until('nothing is left', () => files().length === 0);
      assert.equal(await watched.store.get('vms/a'), undefined);
    });

    it('takes its status with it also when it went while nobody looked', async () => {
      const first = watch();
      await accepted(first);
      await first.stop();
      unlinkSync(path.join(directory, 'a.yaml'));
      watch();
      await until('nothing is left', () => files().length === 0);
    });

    it('keeps its status while somebody works on it', async () => {
      const watched = watch();
      await accepted(watched);
      const claim = await watched.store.claim('vms/a');
      unlinkSync(path.join(directory, 'a.yaml'));
      await until('the key', () => watched.seen.get('vms/a') === 2);
      assert.equal(await watched.store.get('vms/a'), undefined);
      await watched.store.writeStatus('vms/a', status('Cancelled'));
      put('a.yaml', manifest('a', { 'spec.backoffLimit': 1 }));
      await aWhile();
      assert.equal(await watched.store.get('vms/a'), undefined, 'a new request waits for the end of the old one');
      await claim?.release();
      await until('the new request', async () => (await watched.store.get('vms/a')) !== undefined);
      const { spec, status: none } = requestOf(await watched.store.get('vms/a'));
      assert.equal(spec.backoffLimit, 1);
      assert.equal(none, undefined);
    });

    it('stays, marked, while something must be dropped at its destination, across a restart as well', async () => {
      const first = watch();
      await accepted(first);
      await first.store.setCleanupPending('vms/a', true);
      const upload = { id: 'u', partSize: 1, fingerprint: 'f' };
      await first.store.writeStatus('vms/a', { disks: [{ path: 'disk.img', upload }] });
      await first.stop();
      unlinkSync(path.join(directory, 'a.yaml'));

      const second = watch();
      await until('the key', () => second.seen.has('vms/a'));
      const stored = await second.store.get('vms/a');
      assert.partialDeepStrictEqual(stored, { kind: 'request', isTerminating: true, request: { status: { disks: [{ upload }] } } });
      await second.store.setCleanupPending('vms/a', false);
      await until('nothing is left', () => files().length === 0);
      assert.equal(await second.store.get('vms/a'), undefined);
    });

    it('goes by remove, and leaves what else is in the file', async () => {
      const watched = watch();
      await accepted(watched);
      put('two.yaml', `${manifest('b')}---\nkind: Secret # kept\nmetadata: {name: s}\n`);
      await until('the key', () => watched.seen.has('vms/b'));
      await watched.store.writeStatus('vms/b', status('Succeeded'));
      await watched.store.remove('vms/a');
      await watched.store.remove('vms/b');
      await until('their statuses are gone', () => files().length === 1);
      assert.match(read('two.yaml'), /^kind: Secret # kept\nmetadata:/);
      assert.equal(await watched.store.get('vms/b'), undefined);
      await until('the key', () => watched.seen.get('vms/a') === 2);
    });
  });

  describe('resolve', () => {
    const secret = (token: string) => stringify({ kind: 'Secret', metadata: { name: 's', namespace: 'vms' }, stringData: { token } });
    const REFERENCE = { kind: 'Secret', namespace: 'vms', name: 's' } as const;

    it('reads a Secret anew each time', async () => {
      put('a.yaml', `${manifest('a')}---\n${secret('first')}`);
      const { store, seen } = watch();
      await until('the key', () => seen.has('vms/a'));
      assert.equal((await store.resolve(REFERENCE))?.data.token?.toString(), 'first');
      put('a.yaml', `${manifest('a')}---\n${secret('second')}`);
      assert.equal((await store.resolve(REFERENCE))?.data.token?.toString(), 'second');
      assert.equal(await store.resolve({ ...REFERENCE, namespace: 'default' }), undefined);
      assert.equal(await store.resolve({ ...REFERENCE, kind: 'ConfigMap' }), undefined);
    });

    it('waits for one that is being written', async () => {
      const { store } = watch(LONG_SETTLE_MS);
      const text = secret('whole');
      put('s.yaml', text.slice(0, -4));
      const resolved = store.resolve(REFERENCE);
      await delay(50);
      put('s.yaml', text);
      assert.equal((await resolved)?.data.token?.toString(), 'whole');
    });
  });
});
