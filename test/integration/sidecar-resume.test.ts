/** Exports of a sidecar that dies: the next one sends only the missing parts, and no upload stays open. */

import assert from 'node:assert/strict';
import { appendFile, mkdir, rm, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { startFaultProxy } from '../helpers/fault-proxy.ts';
import { credentialsSecret, diskExport, type Manifest } from '../helpers/manifest.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import { startReceiver } from '../helpers/receiver-process.ts';
import { type S3Fake, startS3Fake } from '../helpers/s3-fake.ts';
import { s3InParts } from '../helpers/s3-in-parts.ts';
import { apply, type Sidecar, startSidecar, statusOf, waitForStatus } from '../helpers/sidecar.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { until } from '../helpers/until.ts';

const MIB = 1024 * 1024;

/** Parts of 5 MiB of an image of 40 MiB of data and some metadata. */
const PARTS = 9;
const PARTS_BEFORE = 4;

describe('a sidecar that ends while it uploads to S3', function () {
  this.timeout(60_000);
  const temp = useTempDir();
  let requests: string;
  let s3: S3Fake;
  const keys = credentialsSecret('keys', { AWS_ACCESS_KEY_ID: 'access', AWS_SECRET_ACCESS_KEY: 'secret' });
  beforeEach(async () => {
    requests = temp('requests');
    await mkdir(temp('volume'));
    await createDisk(temp('volume/disk.img'), 64 * MIB, [{ offsetBytes: MIB, lengthBytes: 40 * MIB, content: 'random' }]);
    s3 = await startS3Fake();
  });
  afterEach(() => s3[Symbol.asyncDispose]());

  const start = (): Promise<Sidecar> => startSidecar({ requests, volumes: [`claim=${temp('volume')}`] });

  function manifest(spec: Record<string, unknown> = {}): Manifest {
    return diskExport('long', s3InParts(s3.url, '{disk}.qcow2'), spec);
  }

  /** Runs a sidecar until some parts have arrived and the next one hangs. */
  async function uploadSomeParts(request: Manifest = manifest()): Promise<Sidecar> {
    s3.quirks.push({ operation: 'UploadPart', after: PARTS_BEFORE, does: 'hang' });
    const sidecar = await start();
    await apply(requests, request, keys);
    for (let waitedMs = 0; s3.count('UploadPart') <= PARTS_BEFORE; waitedMs += 20) {
      assert.ok(waitedMs < 20_000, sidecar.output());
      await sleep(20);
    }
    assert.equal(s3.store.uploads.size, 1);
    return sidecar;
  }

  async function uploadsOpen(count: number): Promise<void> {
    for (let waitedMs = 0; s3.store.uploads.size !== count; waitedMs += 20) {
      assert.ok(waitedMs < 10_000, `${s3.store.uploads.size} uploads are open`);
      await sleep(20);
    }
  }

  async function assertArrived(): Promise<void> {
    const { body } = s3.store.objects.get('disk.qcow2') ?? assert.fail('no object');
    await writeFile(temp('arrived.qcow2'), body);
    await assertImageOf(temp('arrived.qcow2'), temp('volume/disk.img'));
    assert.equal(s3.store.uploads.size, 0, 'nothing is left open');
  }

  for (const signal of ['SIGKILL', 'SIGTERM'] as const)
    it(`by ${signal}: the next one sends only the missing parts, and the interrupted attempt does not count`, async () => {
      await using first = await uploadSomeParts();
      await first.stop(signal);
      assert.ok(statusOf(requests, 'long')?.disks?.[0]?.upload !== undefined, 'what is open is noted');
      s3.quirks.length = 0;
      const before = s3.requests.length;
      await using _second = await start();
      const status = await waitForStatus(requests, 'long');
      assert.deepEqual([status.phase, status.disks?.[0]?.attempts, status.disks?.[0]?.upload], ['Succeeded', 1, undefined], status.message);
      const after = s3.requests.slice(before).map(({ operation }) => operation);
      assert.equal(after.filter((operation) => operation === 'UploadPart').length, PARTS - PARTS_BEFORE);
      assert.ok(!after.includes('CreateMultipartUpload'));
      await assertArrived();
    });

  it('and whose disk changes before the next one starts: that starts again, and drops the old upload', async () => {
    await using first = await uploadSomeParts();
    await first.stop('SIGKILL');
    s3.quirks.length = 0;
    await appendFile(temp('volume/disk.img'), Buffer.alloc(MIB, 7));
    const before = s3.requests.length;
    await using _second = await start();
    assert.equal((await waitForStatus(requests, 'long')).phase, 'Succeeded');
    const after = s3.requests.slice(before).map(({ operation }) => operation);
    assert.ok(after.includes('AbortMultipartUpload'));
    assert.equal(after.filter((operation) => operation === 'UploadPart').length, PARTS);
    await assertArrived();
  });

  it('and whose request is cancelled before the next one starts: that drops the upload', async () => {
    await using first = await uploadSomeParts();
    await first.stop('SIGKILL');
    await apply(requests, manifest({ cancel: true }), keys);
    await using _second = await start();
    assert.equal((await waitForStatus(requests, 'long')).phase, 'Cancelled');
    await uploadsOpen(0);
    assert.equal(s3.store.objects.size, 0);
  });

  it('and whose request is deleted before the next one starts: that drops the upload', async () => {
    await using first = await uploadSomeParts();
    await first.stop('SIGKILL');
    await rm(temp('requests/long.yaml'));
    // The credentials stay.
    await apply(requests, keys as Manifest);
    s3.quirks.length = 0;
    await using _second = await start();
    await uploadsOpen(0);
    await until('nothing is kept of the request', () => statusOf(requests, 'long') === undefined);
  });

  for (const [how, act] of [
    ['cancelled', () => apply(requests, manifest({ cancel: true }), keys)],
    ['deleted', () => rm(`${requests}/long.yaml`)],
  ] as const)
    it(`drops the upload when the request is ${how} meanwhile`, async () => {
      await using _sidecar = await uploadSomeParts();
      await act();
      await uploadsOpen(0);
      await sleep(200);
      assert.deepEqual([s3.store.objects.size, s3.store.uploads.size], [0, 0]);
    });

  describe('before it receives the id of its upload', () => {
    /** Runs a sidecar until the server has made an upload, whose answer never comes. */
    async function askForUpload(): Promise<Sidecar> {
      s3.quirks.push({ operation: 'CreateMultipartUpload', does: 'hang after' });
      const sidecar = await start();
      await apply(requests, manifest(), keys);
      await uploadsOpen(1);
      return sidecar;
    }

    it('by SIGKILL: the next one drops it, and makes one object', async () => {
      await using first = await askForUpload();
      await first.stop('SIGKILL');
      assert.match(statusOf(requests, 'long')?.disks?.[0]?.upload?.id ?? '', /^creating:\d+$/);
      s3.quirks.length = 0;
      await using _second = await start();
      const status = await waitForStatus(requests, 'long');
      assert.deepEqual([status.phase, status.disks?.[0]?.attempts, status.disks?.[0]?.upload], ['Succeeded', 1, undefined], status.message);
      assert.equal(s3.store.objects.size, 1);
      await assertArrived();
    });

    it('by SIGKILL, and its request is cancelled: the next one drops it', async () => {
      await using first = await askForUpload();
      await first.stop('SIGKILL');
      await apply(requests, manifest({ cancel: true }), keys);
      await using _second = await start();
      assert.equal((await waitForStatus(requests, 'long')).phase, 'Cancelled');
      await uploadsOpen(0);
      assert.equal(s3.store.objects.size, 0);
    });

    it('because it is cancelled: drops it itself', async () => {
      await using _sidecar = await askForUpload();
      await apply(requests, manifest({ cancel: true }), keys);
      assert.equal((await waitForStatus(requests, 'long', ({ phase }) => phase === 'Cancelled')).phase, 'Cancelled');
      await uploadsOpen(0);
      await waitForStatus(requests, 'long', ({ disks }) => disks?.[0]?.upload === undefined);
    });
  });

  it('drops the upload when the export fails with an error that is not retryable', async () => {
    s3.quirks.push({ operation: 'UploadPart', after: PARTS_BEFORE, does: { status: 400, code: 'InvalidArgument' } });
    await using _sidecar = await start();
    await apply(requests, manifest(), keys);
    const status = await waitForStatus(requests, 'long');
    assert.deepEqual([status.phase, status.disks?.[0]?.reason], ['Failed', 'DestinationRejected']);
    assert.deepEqual([s3.store.objects.size, s3.store.uploads.size], [0, 0]);
  });
});

describe('a sidecar that is killed while it sends to a receiver', function () {
  this.timeout(60_000);
  const temp = useTempDir();

  it('is followed by one that sends only the missing bytes', async () => {
    const requests = temp('requests');
    await mkdir(temp('volume'));
    await createDisk(temp('volume/disk.img'), 256 * MIB, [{ offsetBytes: MIB, lengthBytes: 160 * MIB, content: 'random' }]);
    await using receiver = await startReceiver(['--output', temp('received.qcow2')]);
    const reached = Promise.withResolvers<void>();
    await using proxy = await startFaultProxy(
      receiver.port,
      { kind: 'tell', act: reached.resolve, direction: 'toServer', atByte: 100 * MIB },
      { kind: 'stall', direction: 'toServer', atByte: 100 * MIB },
    );
    const start = () => startSidecar({ requests, volumes: [`claim=${temp('volume')}`] });
    await using first = await start();
    await apply(requests, diskExport('long', { tcp: { host: '127.0.0.1', port: proxy.port, protocol: 'Acknowledged' } }));
    await reached.promise;
    await first.stop('SIGKILL');
    const before = proxy.passed.toServer;
    await using _second = await start();
    const status = await waitForStatus(requests, 'long');
    assert.deepEqual([status.phase, status.attempts], ['Succeeded', 1], status.message);
    const { imageBytes = 0 } = status.disks?.[0] ?? {};
    const again = proxy.passed.toServer - before;
    assert.ok(again < imageBytes - 64 * MIB, `${again} of ${imageBytes} bytes were sent again`);
    await receiver.ended;
    await assertImageOf(temp('received.qcow2'), temp('volume/disk.img'));
  });
});
