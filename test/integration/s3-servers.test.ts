import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import {
  CompleteMultipartUploadCommand,
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  GetObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsCommand,
  PutObjectCommand,
  S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { DiskliftError } from '../../src/common/errors.ts';
import { type ForwardProxy, startForwardProxy } from '../helpers/forward-proxy.ts';
import { type ImageInProcess, NEVER, openImage } from '../helpers/image-in-process.ts';
import type { ListeningProcess } from '../helpers/listening-process.ts';
import { KEY, type S3Sending, type S3Sent, s3Target, sendToS3 } from '../helpers/s3-export.ts';
import { BUCKET } from '../helpers/s3-fake.ts';
import { resumeOf } from '../helpers/s3-rig.ts';
import { requireS3Server, S3_SERVERS, SERVER_KEYS } from '../helpers/s3-servers.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { until } from '../helpers/until.ts';

const MIB = 1024 * 1024;
const PART_BYTES = 5 * MIB;

for (const server of S3_SERVERS)
  describe(`s3 target at ${server.name}`, () => {
    let directory: string | undefined;
    let running: ListeningProcess;
    let opened: ImageInProcess;
    let expected: Buffer;
    let client: S3Client;
    /** Records the requests. */
    let proxy: ForwardProxy;
    before(async function () {
      requireS3Server(server, this);
      directory = mkdtempSync(path.join(os.tmpdir(), 'disklift-test-'));
      running = await server.start(directory);
      proxy = await startForwardProxy();
      const disk = await createDisk(path.join(directory, 'a.img'), 32 * MIB, [
        { offsetBytes: 0, lengthBytes: 14 * MIB, content: 'random' },
      ]);
      opened = await openImage(disk);
      expected = Buffer.alloc(opened.image.sizeBytes);
      await opened.image.read(expected, 0, NEVER);
      client = new S3Client({
        endpoint: url(),
        region: 'us-east-1',
        forcePathStyle: true,
        credentials: SERVER_KEYS,
        requestChecksumCalculation: 'WHEN_REQUIRED',
        responseChecksumValidation: 'WHEN_REQUIRED',
      });
      await until('the bucket is made', async () => {
        try {
          await client.send(new CreateBucketCommand({ Bucket: BUCKET }));
          return true;
        } catch (error) {
          return /Bucket.*Already/.test((error as Error).name);
        }
      });
    });
    after(async () => {
      client?.destroy();
      await opened?.[Symbol.asyncDispose]();
      await proxy?.[Symbol.asyncDispose]();
      await running?.[Symbol.asyncDispose]();
      if (directory !== undefined) rmSync(directory, { recursive: true, force: true });
    });

    const url = () => `http://127.0.0.1:${running.port}`;
    const options = (key: string) => ({ key, partSizeBytes: PART_BYTES, credentials: async () => SERVER_KEYS });

    function send(key: string, { options: more, ...sending }: Omit<Partial<S3Sending>, 'url'> = {}): Promise<S3Sent> {
      proxy.asked.length = 0;
      const all = { ...options(key), proxy: { httpProxy: proxy.url }, ...more };
      return sendToS3({ image: opened.image, url: url(), limits: { lateMs: 400, minPartBytes: PART_BYTES }, ...sending, options: all });
    }

    const sentParts = () => proxy.asked.filter((asked) => asked.includes('partNumber=')).length;

    async function assertThere(key: string): Promise<void> {
      const { Body } = await client.send(new GetObjectCommand({ Bucket: BUCKET, Key: key }));
      const bytes = Buffer.from((await Body?.transformToByteArray()) ?? []);
      assert.ok(bytes.equals(expected), `${bytes.length} bytes at ${key}`);
    }

    async function assertNothingAt(key: string): Promise<void> {
      const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket: BUCKET }));
      assert.deepEqual(
        Uploads.map(({ Key }) => Key).filter((each) => each === key),
        [],
      );
      const { Contents = [] } = await client.send(new ListObjectsCommand({ Bucket: BUCKET }));
      assert.ok(!Contents.some(({ Key }) => Key?.includes(key)), 'nothing of the key is left');
    }

    /** Runs an attempt that is cancelled when the first part has arrived. */
    async function sendOnePart(key: string, more: S3Sending['options'] = {}): Promise<S3Sent> {
      const cancel = new AbortController();
      const sent = await send(key, {
        options: { ...more, concurrency: 1 },
        context: { signal: cancel.signal, progress: () => cancel.abort(new DiskliftError('Cancelled', 'enough')) },
      });
      assert.equal(sent.failure?.message, 'enough');
      return sent;
    }

    for (const checksum of ['None', ...server.checksums] as const)
      it(`exports an image in parts, checksum ${checksum}`, async () => {
        const key = `parts/${checksum}.qcow2`;
        const { receipt, failure } = await send(key, { options: { checksum } });
        assert.equal(failure, undefined);
        assert.equal(receipt?.proof, checksum === 'None' ? server.proof : receipt?.proof);
        await assertThere(key);
      });

    it('exports an image by one request', async () => {
      const { failure } = await send(KEY, { options: { partSizeBytes: 64 * MIB } });
      assert.equal(failure, undefined);
      await assertThere(KEY);
    });

    it('resumes at the first missing part', async () => {
      const first = await sendOnePart('resumed.qcow2');
      const second = await send('resumed.qcow2', { context: { resume: resumeOf(first) } });
      assert.equal(second.failure, undefined);
      assert.deepEqual([sentParts(), second.saved], [Math.ceil(expected.length / PART_BYTES) - 1, [undefined]]);
      await assertThere('resumed.qcow2');
    });

    const { writeOnlyKeys } = server;
    if (writeOnlyKeys !== undefined)
      it('continues an upload with keys that may only write and list no parts', async () => {
        const more = { credentials: async () => writeOnlyKeys };
        const first = await sendOnePart('written.qcow2', more);
        const second = await send('written.qcow2', { options: more, context: { resume: resumeOf(first) } });
        assert.equal(second.failure, undefined);
        assert.deepEqual(second.saved, [undefined]);
        await assertThere('written.qcow2');
      });

    for (const partSizeBytes of [PART_BYTES, 64 * MIB])
      it(`keeps an object that is there with ifNotExists, parts of ${partSizeBytes / MIB} MiB`, async () => {
        const key = `kept/${partSizeBytes}.qcow2`;
        const { failure } = await send(key, { options: { partSizeBytes, ifNotExists: true } });
        assert.equal(failure, undefined);
        await assertThere(key);
        await client.send(new PutObjectCommand({ Bucket: BUCKET, Key: key, Body: 'the only good copy' }));
        const { failure: refused } = await send(key, { options: { partSizeBytes, ifNotExists: true } });
        assert.deepEqual([refused?.code, refused?.retryable], ['DestinationRejected', false], refused?.message);
        const { Body } = await client.send(new GetObjectCommand({ Bucket: BUCKET, Key: key }));
        assert.equal(await Body?.transformToString(), 'the only good copy');
      });

    it(`honours If-None-Match of ${server.honoursIfNoneMatch.join(' and ') || 'no request'}`, async () => {
      const about = { Bucket: BUCKET, Key: 'condition', IfNoneMatch: '*' };
      const ways = {
        PutObject: () => client.send(new PutObjectCommand({ ...about, Body: 'x' })),
        async CompleteMultipartUpload() {
          const { UploadId } = await client.send(new CreateMultipartUploadCommand(about));
          const { ETag } = await client.send(new UploadPartCommand({ ...about, UploadId, PartNumber: 1, Body: 'x' }));
          const MultipartUpload = { Parts: [{ PartNumber: 1, ETag }] };
          return client.send(new CompleteMultipartUploadCommand({ ...about, UploadId, MultipartUpload }));
        },
      };
      await ways.PutObject();
      const refused: string[] = [];
      for (const [operation, make] of Object.entries(ways))
        await make().catch((error) => {
          assert.equal(error.$metadata.httpStatusCode, 412);
          refused.push(operation);
        });
      assert.deepEqual(refused, server.honoursIfNoneMatch);
    });

    it('keeps nothing of a cancelled export', async () => {
      const state = resumeOf(await sendOnePart('cancelled.qcow2'));
      const target = s3Target({ url: url(), options: options('cancelled.qcow2') });
      await target.abandon(state, NEVER);
      await assertNothingAt('cancelled.qcow2');
    });

    if (server.checksKeys)
      it('names wrong credentials', async () => {
        const wrong = { ...SERVER_KEYS, secretAccessKey: 'guessed' };
        const { failure } = await send('wrong.qcow2', { options: { credentials: async () => wrong } });
        assert.deepEqual([failure?.code, failure?.retryable], ['CredentialsInvalid', false], failure?.message);
      });
  });
