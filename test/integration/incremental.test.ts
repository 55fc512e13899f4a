/** Incremental exports of one claim: the chain at a real server shows the disk at each point in time, or is refused. */

import assert from 'node:assert/strict';
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import path from 'node:path';
import { DiskliftError } from '../../src/common/errors.ts';
import { type ImageReceipt, parseReceipt } from '../../src/receipts/receipt.ts';
import { parseTracker } from '../../src/receipts/tracker.ts';
import { startHttpSink } from '../helpers/http-sink.ts';
import { type Nginx, startNginx } from '../helpers/nginx.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { runTracked, type TrackedEnd, type TrackedExport } from '../helpers/tracked-exports.ts';
import { requireVersitygw, startVersitygw, VERSITYGW_KEYS, type Versitygw } from '../helpers/versitygw.ts';

const MIB = 1024 * 1024;
const BUCKET = 'backups';

interface Place {
  /** The destination of a request, with the key or path of its images. */
  destination(folder?: string): object;
  tracker(folder?: string): string;
  /** File of an image on the server. */
  file(name: string, folder?: string): string;
}

interface Server extends AsyncDisposable {
  place: Place;
}

async function startS3(directory: string): Promise<Server> {
  mkdirSync(directory, { recursive: true });
  const server: Versitygw = await startVersitygw(directory, BUCKET);
  return {
    place: {
      destination: (folder = 'vms') => ({
        s3: {
          endpoint: server.url,
          bucket: BUCKET,
          key: `${folder}/{disk}-{name}.qcow2`,
          forcePathStyle: true,
          credentialsSecretRef: { name: 'keys' },
        },
      }),
      tracker: (folder = 'vms') => `${folder}/latest/{disk}.json`,
      file: (name, folder = 'vms') => server.objectPath(BUCKET, `${folder}/${name}`),
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

async function startHttp(directory: string): Promise<Server> {
  mkdirSync(directory, { recursive: true });
  const server: Nginx = await startNginx(directory, 'dav_methods PUT; create_full_put_path on; client_max_body_size 0;');
  return {
    place: {
      destination: (folder = 'vms') => ({ http: { url: `${server.url}/${folder}/{disk}-{name}.qcow2` } }),
      tracker: (folder = 'vms') => `/${folder}/latest/{disk}.json`,
      file: (name, folder = 'vms') => server.file(`${folder}/${name}`),
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

const CREDENTIALS = { AWS_ACCESS_KEY_ID: VERSITYGW_KEYS.accessKeyId, AWS_SECRET_ACCESS_KEY: VERSITYGW_KEYS.secretAccessKey };

for (const [kind, start] of [
  ['S3', startS3],
  ['HTTP', startHttp],
] as const)
  describe(`incremental exports to ${kind}`, function () {
    this.timeout(120_000);
    const temp = useTempDir();
    let server: Server;
    let place: Place;
    let disk: string;
    before(function () {
      if (kind === 'S3') requireVersitygw(this);
    });
    beforeEach(async () => {
      server = await start(temp('server'));
      place = server.place;
      mkdirSync(temp('volume'));
      disk = temp('volume/disk.img');
      await createDisk(disk, 16 * MIB + 512, [
        { offsetBytes: 100_000, lengthBytes: 5 * MIB, content: 'random' },
        { offsetBytes: 12 * MIB, lengthBytes: 2 * MIB, content: 'random' },
      ]);
    });
    afterEach(() => server[Symbol.asyncDispose]());

    function run(name: string, more: Partial<TrackedExport> & { incremental?: object; folder?: string } = {}): Promise<TrackedEnd> {
      const { incremental = {}, folder, spec, ...rest } = more;
      const tracked = { destination: place.destination(folder), incremental: { tracker: place.tracker(folder), ...incremental }, ...spec };
      return runTracked({ name, volume: temp('volume'), credentials: CREDENTIALS, uid: `uid-${name}`, ...rest, spec: tracked });
    }

    async function change(offset: number, bytes: Buffer): Promise<void> {
      await using file = await open(disk, 'r+');
      await file.write(bytes, 0, bytes.length, offset);
      await file.sync();
    }

    const image = (name: string, folder?: string) => place.file(`disk-${name}.qcow2`, folder);

    function receiptOf(name: string, folder?: string): ImageReceipt {
      const parsed = parseReceipt(readFileSync(`${image(name, folder)}.json`));
      assert.ok('value' in parsed, JSON.stringify(parsed));
      return parsed.value;
    }

    function trackedPlace(folder?: string): string {
      const parsed = parseTracker(readFileSync(place.file('latest/disk.json', folder)));
      assert.ok('value' in parsed);
      return parsed.value.image.place;
    }

    function keep(name: string): string {
      const copy = temp(`${name}.raw`);
      copyFileSync(disk, copy);
      return copy;
    }

    function assertFull(end: TrackedEnd, reason: string): void {
      assert.equal(end.phase, 'Succeeded', end.failure?.message);
      const [found] = end.status.disks ?? [];
      assert.deepEqual([found?.type, found?.typeReason, found?.base], ['Full', reason, undefined]);
      const condition = end.status.conditions?.find(({ type }) => type === 'Incremental');
      assert.deepEqual([condition?.status, condition?.reason], ['False', reason === 'FirstImage' ? 'FirstImage' : 'FellBack']);
      assert.match(condition?.message ?? '', new RegExp(`disk.img \\(${reason}: `));
      const event = end.events.find(({ reason: each }) => each === 'FellBackToFull' || each === 'FirstImage');
      assert.deepEqual([event?.reason, event?.type], reason === 'FirstImage' ? ['FirstImage', 'Normal'] : ['FellBackToFull', 'Warning']);
    }

    function assertIncremental(end: TrackedEnd, base: string): void {
      assert.equal(end.phase, 'Succeeded', end.failure?.message);
      const [found] = end.status.disks ?? [];
      assert.deepEqual([found?.type, found?.typeReason], ['Incremental', 'BlockHashes'], JSON.stringify(end.status.conditions));
      assert.ok(found?.base?.location.endsWith(`disk-${base}.qcow2`), found?.base?.location);
      const condition = end.status.conditions?.find(({ type }) => type === 'Incremental');
      assert.deepEqual([condition?.status, condition?.reason], ['True', 'OnlyChanges']);
    }

    it('makes a chain that shows the disk at each point in time, also of a disk that grows', async () => {
      const truths: string[] = [];
      assertFull(await run('one'), 'FirstImage');
      truths.push(keep('one'));

      await change(2 * MIB + 17, Buffer.alloc(3000, 7));
      await change(12 * MIB, Buffer.alloc(MIB));
      const second = await run('two');
      assertIncremental(second, 'one');
      truths.push(keep('two'));
      const { changedBytes = 0, imageBytes = 0 } = second.status.disks?.[0] ?? {};
      assert.ok(changedBytes <= 3 * MIB && imageBytes < 2 * MIB, `${changedBytes} ${imageBytes}`);

      truncateSync(disk, 20 * MIB);
      await change(19 * MIB, Buffer.alloc(5000, 9));
      await change(17 * MIB, Buffer.alloc(512, 3));
      assertIncremental(await run('three'), 'two');
      truths.push(keep('three'));

      for (const [index, name] of ['one', 'two', 'three'].entries()) await assertImageOf(image(name), truths[index] as string);
      const { base, type, image: facts } = receiptOf('three');
      assert.equal(type, 'Incremental');
      assert.equal(base?.sha256, receiptOf('two').image.sha256);
      assert.equal(facts.virtualSizeBytes, 20 * MIB);
      assert.ok(facts.etag !== undefined, 'the server has tags');
      assert.ok(trackedPlace().endsWith('disk-three.qcow2'));
      assert.deepEqual(readdirSync(path.dirname(image('three'))).sort(), [
        ...['disk-one.qcow2', 'disk-one.qcow2.blocks', 'disk-one.qcow2.json'],
        ...['disk-three.qcow2', 'disk-three.qcow2.blocks', 'disk-three.qcow2.json'],
        ...['disk-two.qcow2', 'disk-two.qcow2.blocks', 'disk-two.qcow2.json', 'latest'],
      ]);
    });

    const LOSSES: readonly [sentence: string, reason: string, act: () => void | Promise<void>][] = [
      ['whose base is gone', 'BaseMissing', () => rmSync(image('one'))],
      ['whose receipt is gone', 'BaseMissing', () => rmSync(`${image('one')}.json`)],
      ['whose base has another length', 'BaseChanged', () => truncateSync(image('one'), 100_000)],
      ['whose base was replaced by as many bytes', 'BaseChanged', () => spoil(image('one'))],
      ['whose receipt is damaged', 'ReceiptInvalid', () => writeFileSync(`${image('one')}.json`, '{"format":')],
      ['whose tracker is damaged', 'ReceiptInvalid', () => writeFileSync(place.file('latest/disk.json'), '[]')],
      ['whose block hashes are gone', 'ChangesMissing', () => rmSync(`${image('one')}.blocks`)],
      ['whose block hashes are others', 'ChangesRefused', () => spoil(`${image('one')}.blocks`)],
      ['whose block hashes end early', 'ChangesRefused', () => truncateSync(`${image('one')}.blocks`, 96)],
      ['whose disk shrank', 'DiskShrank', () => truncateSync(disk, 8 * MIB)],
      ['whose receipt is of another disk', 'OtherDisk', () => edit(`${image('one')}.json`, 'disk.img', 'other.img')],
      ['whose tracker is of another disk', 'OtherDisk', () => edit(place.file('latest/disk.json'), '"name": "root"', '"name": "data"')],
      [
        'whose tracker names an impossible place',
        'ReceiptInvalid',
        () => edit(place.file('latest/disk.json'), 'disk-one.qcow2"', '../a?b/"'),
      ],
      ['whose receipt names another place', 'ReceiptInvalid', () => edit(`${image('one')}.json`, 'disk-one.qcow2",', 'disk-none.qcow2",')],
    ];

    function spoil(file: string): void {
      const bytes = readFileSync(file);
      bytes[bytes.length - 40] = (bytes[bytes.length - 40] as number) ^ 1;
      // S3 servers keep the tag beside the file; a new file has none.
      rmSync(file);
      writeFileSync(file, bytes);
      // The tag of nginx is made of the length and the time in seconds.
      const laterSeconds = Date.now() / 1000 + 5;
      utimesSync(file, laterSeconds, laterSeconds);
    }

    function edit(file: string, from: string, to: string): void {
      const text = readFileSync(file, 'utf8');
      assert.ok(text.includes(from), `${from} in ${text}`);
      writeFileSync(file, text.replace(from, to));
    }

    for (const [sentence, reason, act] of LOSSES)
      it(`makes a full image of a disk ${sentence}, and says ${reason}; with fallback Fail it fails with that`, async () => {
        assertFull(await run('one'), 'FirstImage');
        await change(3 * MIB, Buffer.alloc(2000, 5));
        await act();
        const refused = await run('refused', { incremental: { fallback: 'Fail' } });
        assert.deepEqual([refused.phase, refused.failure?.code], ['Failed', reason], refused.failure?.message);
        assert.ok(!existsSync(image('refused')));
        assertFull(await run('two'), reason);
        await assertImageOf(image('two'), disk);
        await change(4 * MIB, Buffer.alloc(2000, 6));
        assertIncremental(await run('three'), 'two');
        await assertImageOf(image('three'), disk);
      });

    const BELOW: readonly [sentence: string, reason: string, act: () => void][] = [
      ['is gone', 'BaseMissing', () => rmSync(image('one'))],
      ['has no receipt', 'BaseMissing', () => rmSync(`${image('one')}.json`)],
      ['was replaced', 'BaseChanged', () => spoil(image('one'))],
      [
        'has the receipt of another image',
        'BaseChanged',
        () => edit(`${image('one')}.json`, receiptOf('one').image.sha256 ?? '', '0'.repeat(64)),
      ],
    ];

    for (const [sentence, reason, act] of BELOW)
      it(`makes a full image where an image below the base ${sentence}`, async () => {
        assertFull(await run('one'), 'FirstImage');
        await change(3 * MIB, Buffer.alloc(2000, 5));
        assertIncremental(await run('two'), 'one');
        act();
        const refused = await run('refused', { incremental: { fallback: 'Fail' } });
        assert.deepEqual([refused.phase, refused.failure?.code], ['Failed', reason], refused.failure?.message);
        assertFull(await run('three'), reason);
        await assertImageOf(image('three'), disk);
      });

    it('makes incremental images of a disk that ends inside a sector', async () => {
      truncateSync(disk, 16 * MIB + 700);
      await change(16 * MIB + 600, Buffer.alloc(100, 1));
      assertFull(await run('one'), 'FirstImage');
      const first = keep('one');
      await change(3 * MIB, Buffer.alloc(2000, 5));
      assertIncremental(await run('two'), 'one');
      const second = keep('two');
      await change(16 * MIB + 700, Buffer.alloc(100, 7));
      assertIncremental(await run('three'), 'two');
      const third = keep('three');
      truncateSync(disk, 16 * MIB + 750);
      assertFull(await run('four'), 'DiskShrank');
      for (const [name, truth] of Object.entries({ one: first, two: second, three: third, four: disk }))
        await assertImageOf(image(name), truth);
    });

    it('makes a chain on a named base, and refuses to replace an image that another export recorded', async () => {
      await run('one');
      await change(MIB, Buffer.alloc(100, 1));
      const base = place.tracker().replace('latest/{disk}.json', '{disk}-one.qcow2');
      assertIncremental(await run('two', { incremental: { tracker: undefined, base } }), 'one');
      await assertImageOf(image('two'), disk);
      const again = await run('two', { created: '2026-12-01T01:00:00Z' });
      assert.deepEqual([again.phase, again.failure?.code], ['Failed', 'InvalidRequest'], again.failure?.message);
      assert.match(again.failure?.message ?? '', /place of an image of the export two.*\{timestamp\}/);
      const missing = await run('three', { incremental: { tracker: undefined, base: `${base}x`, fallback: 'Fail' } });
      assert.equal(missing.failure?.code, 'BaseMissing');
    });

    it('keeps two trackers in two folders apart', async () => {
      await run('one', { folder: 'a' });
      const first = keep('first');
      await change(5 * MIB, Buffer.alloc(MIB, 8));
      assertFull(await run('one', { folder: 'b' }), 'FirstImage');
      await change(6 * MIB, Buffer.alloc(MIB, 9));
      assertIncremental(await run('two', { folder: 'a' }), 'one');
      assertIncremental(await run('two', { folder: 'b' }), 'one');
      await assertImageOf(image('one', 'a'), first);
      for (const folder of ['a', 'b']) await assertImageOf(image('two', folder), disk);
    });

    it('makes two right chains in two exports at once with one tracker', async () => {
      await run('one');
      await change(7 * MIB, Buffer.alloc(100_000, 4));
      const ends = await Promise.all([run('two'), run('three')]);
      for (const end of ends) assertIncremental(end, 'one');
      await change(8 * MIB, Buffer.alloc(100_000, 4));
      const last = await run('four');
      assert.equal(last.status.disks?.[0]?.type, 'Incremental');
      await assertImageOf(image('four'), disk);
    });

    it('continues after a process that was lost between the receipt and the move of the tracker', async () => {
      await run('one');
      await change(9 * MIB, Buffer.alloc(1000, 2));
      const lost = await run('two');
      const truth = keep('two');
      // As the process left it: image and receipt are there, the tracker names the image before.
      const { place: one, sha256 } = receiptOf('one').image;
      const tracker = JSON.parse(readFileSync(place.file('latest/disk.json'), 'utf8')) as object;
      writeFileSync(place.file('latest/disk.json'), JSON.stringify({ ...tracker, image: { place: one, sha256 } }));
      const before = readFileSync(image('two'));
      // The disk has changed since: the recorded image may be the base of another one, and stays as it is.
      await change(10 * MIB, Buffer.alloc(1000, 3));
      const status = { startTime: lost.status.startTime as string, phase: 'Pending' as const };
      const resumed = await run('two', { status });
      assertIncremental(resumed, 'one');
      assert.ok(before.equals(readFileSync(image('two'))));
      assert.equal(resumed.status.disks?.[0]?.sha256, lost.status.disks?.[0]?.sha256);
      assert.ok(trackedPlace().endsWith('disk-two.qcow2'));
      await assertImageOf(image('two'), truth);
      assertIncremental(await run('three'), 'two');
      await assertImageOf(image('three'), disk);
    });

    it('makes the image again after a process that was lost between the image and its receipt', async () => {
      await run('one');
      await change(9 * MIB, Buffer.alloc(1000, 2));
      await run('two');
      const { place: one, sha256 } = receiptOf('one').image;
      const tracker = JSON.parse(readFileSync(place.file('latest/disk.json'), 'utf8')) as object;
      writeFileSync(place.file('latest/disk.json'), JSON.stringify({ ...tracker, image: { place: one, sha256 } }));
      rmSync(`${image('two')}.json`);
      await change(10 * MIB, Buffer.alloc(1000, 3));
      assertIncremental(await run('two'), 'one');
      await assertImageOf(image('two'), disk);
      assert.ok(trackedPlace().endsWith('disk-two.qcow2'));
    });

    if (kind === 'HTTP')
      it('sends nothing but the image and its receipt where the request says nothing about receipts', async () => {
        await using sink = await startHttpSink();
        const end = await runTracked({
          name: 'one',
          volume: temp('volume'),
          spec: { destination: { http: { url: `${sink.url}/a.qcow2` } } },
        });
        assert.equal(end.phase, 'Succeeded', end.failure?.message);
        assert.deepEqual(
          sink.requests.map(({ method, url }) => `${method} ${url}`),
          ['PUT /a.qcow2', 'PUT /a.qcow2.json'],
        );
        const parsed = parseReceipt(sink.complete.get('/a.qcow2.json') ?? assert.fail('no receipt'));
        assert.ok('value' in parsed && parsed.value.image.etag === '"tag"');
      });

    if (kind === 'HTTP')
      describe('at a server that takes no receipts', () => {
        async function at(directives: string, spec: object): Promise<TrackedEnd> {
          mkdirSync(temp('strict'), { recursive: true });
          await using strict = await startNginx(
            temp('strict'),
            `dav_methods PUT; create_full_put_path on; client_max_body_size 0; ${directives}`,
          );
          const destination = { http: { url: `${strict.url}/{disk}.qcow2` } };
          const end = await runTracked({ name: 'one', volume: temp('volume'), spec: { destination, ...spec } });
          await assertImageOf(strict.file('disk.qcow2'), disk);
          assert.ok(!existsSync(strict.file('disk.qcow2.json')));
          return end;
        }
        const REFUSES = 'location ~ json$ { limit_except GET { deny all; } }';

        it('succeeds with a warning where the request says nothing about receipts', async () => {
          const end = await at(REFUSES, {});
          assert.equal(end.phase, 'Succeeded', end.failure?.message);
          const condition = end.status.conditions?.find(({ type }) => type === 'ReceiptsMissing');
          assert.deepEqual([condition?.status, condition?.reason], ['True', 'Refused']);
          assert.match(condition?.message ?? '', /^disk\.img: .*answered 403/);
          const event = end.events.find(({ reason }) => reason === 'ReceiptMissing');
          assert.equal(event?.type, 'Warning');
        });

        for (const spec of [{ receipt: true }, { incremental: { tracker: '/latest' } }])
          it(`fails with ${Object.keys(spec).join()}, and says that the image has arrived`, async () => {
            const end = await at(REFUSES, spec);
            assert.deepEqual([end.phase, end.failure?.code], ['Failed', 'CredentialsInvalid'], end.failure?.message);
            assert.match(
              end.failure?.message ?? '',
              /^the image has arrived at http:.*disk\.qcow2, but its receipt could not be written: .*403/,
            );
          });

        it('tries only the receipt again while the server is busy, and then fails', async () => {
          const end = await at('location ~ json$ { return 503; }', { receipt: true, backoffLimit: 2 });
          assert.deepEqual([end.phase, end.status.disks?.[0]?.attempts], ['Failed', 3]);
          assert.match(end.failure?.message ?? '', /^the image has arrived at .*503.*\(after 3 attempts\)$/);
        });
      });

    it('leaves neither receipt nor tracker when it is stopped before the image has arrived', async () => {
      const stop = new AbortController();
      stop.abort(new DiskliftError('ExecutorLost', 'stopped'));
      const end = await run('one', { stop: stop.signal });
      assert.notEqual(end.phase, 'Succeeded');
      assert.ok(!existsSync(`${image('one')}.json`));
      assert.ok(!existsSync(place.file('latest/disk.json')));
    });

    it('writes a receipt beside the image of a request that says nothing about it, and none with receipt false', async () => {
      const plain = { incremental: undefined };
      const end = await run('one', { spec: plain });
      assert.equal(end.phase, 'Succeeded', end.failure?.message);
      assert.equal(end.status.disks?.[0]?.type, undefined);
      const { type, reason, image: facts, disk: of, points } = receiptOf('one');
      assert.deepEqual([type, reason, points], ['Full', undefined, {}]);
      assert.deepEqual(of, { namespace: 'vms', source: { kind: 'PersistentVolumeClaim', name: 'root' }, path: 'disk.img' });
      assert.equal(facts.sha256, end.status.disks?.[0]?.sha256);
      await run('two', { spec: { ...plain, receipt: false } });
      assert.deepEqual(readdirSync(path.dirname(image('one'))).sort(), ['disk-one.qcow2', 'disk-one.qcow2.json', 'disk-two.qcow2']);
    });
  });
