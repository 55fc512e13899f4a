// Runs alone: it measures how much memory a process takes.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { DiskliftError } from '../../../../src/common/errors.ts';
import { digestImage } from '../../../../src/image/digest.ts';
import type { S3ProcessReport } from '../../../fixtures/s3-process.ts';
import { type ImageInProcess, NEVER, openImage } from '../../../helpers/image-in-process.ts';
import { assertImageOf } from '../../../helpers/qemu-img.ts';
import { runCommand } from '../../../helpers/run-command.ts';
import { KEY, type S3Sending, type S3Sent, s3Target, sendToS3 } from '../../../helpers/s3-export.ts';
import { BUCKET } from '../../../helpers/s3-fake.ts';
import { createDisk } from '../../../helpers/sparse-disk.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';
import { requireVersitygw, startVersitygw, VERSITYGW_KEYS, type Versitygw } from '../../../helpers/versitygw.ts';

const PROCESS = fileURLToPath(new URL('../../../fixtures/s3-process.ts', import.meta.url));

const MIB = 1024 * 1024;

describe('s3 target at versitygw', () => {
  const temp = useTempDir();
  let server: Versitygw;
  let opened: ImageInProcess;
  let disk: string;
  before(function () {
    requireVersitygw(this);
  });
  beforeEach(async () => {
    server = await startVersitygw(temp('objects'), BUCKET);
    disk = await createDisk(temp('a.img'), 64 * MIB, [{ offsetBytes: 0, lengthBytes: 23 * MIB, content: 'random' }]);
    opened = await openImage(disk);
  });
  afterEach(async () => {
    await opened?.[Symbol.asyncDispose]();
    await server?.[Symbol.asyncDispose]();
  });

  /** With parts of the smallest size that S3 knows. */
  const send = ({ options, ...sending }: Omit<Partial<S3Sending>, 'url'> = {}): Promise<S3Sent> =>
    sendToS3({
      image: opened.image,
      url: server.url,
      options: { partSizeBytes: 5 * MIB, credentials: async () => VERSITYGW_KEYS, ...options },
      limits: {},
      ...sending,
    });

  for (const checksum of ['None', 'CRC32', 'CRC32C', 'CRC64NVME'] as const)
    it(`makes an object of parts that is the image, checksum ${checksum}`, async () => {
      const { receipt, failure } = await send({ options: { checksum } });
      assert.equal(failure, undefined);
      assert.equal(receipt?.proof, 'etag');
      await assertImageOf(server.objectPath(BUCKET, KEY), disk);
    });

  it('makes an object of one part, and puts its SHA-256 beside it', async () => {
    const { image, sha256 } = digestImage(opened.image);
    const { receipt } = await send({
      image,
      options: { partSizeBytes: 64 * MIB, sha256Object: true },
      context: { seal: async () => ({ sha256: await sha256(NEVER) }) },
    });
    assert.equal(receipt?.proof, 'etag');
    const object = await readFile(server.objectPath(BUCKET, KEY));
    const hex = createHash('sha256').update(object).digest('hex');
    assert.deepEqual([receipt?.sha256, await readFile(`${server.objectPath(BUCKET, KEY)}.sha256`, 'utf8')], [hex, `${hex}  disk.qcow2\n`]);
    await assertImageOf(server.objectPath(BUCKET, KEY), disk);
  });

  it('resumes after a cancelled attempt, and finds a completed object', async () => {
    const cancel = new AbortController();
    const first = await send({
      options: { concurrency: 1 },
      context: {
        signal: cancel.signal,
        progress: (bytes) => void (bytes >= 10 * MIB && cancel.abort(new DiskliftError('Cancelled', 'enough'))),
      },
    });
    assert.equal(first.failure?.message, 'enough');
    const state = first.saved.at(-1);
    const second = await send({ context: { resume: state } });
    assert.equal(second.failure, undefined);
    assert.equal(second.progress.length, Math.ceil(opened.image.sizeBytes / (5 * MIB)));
    assert.deepEqual(second.saved, [undefined]);
    await assertImageOf(server.objectPath(BUCKET, KEY), disk);

    const third = await send({ context: { resume: state } });
    assert.deepEqual([third.receipt?.proof, third.saved], ['etag', [undefined]]);
  });

  for (const partSizeBytes of [5 * MIB, 64 * MIB])
    it(`keeps an object that is there with ifNotExists, parts of ${partSizeBytes / MIB} MiB`, async () => {
      const options = { partSizeBytes, ifNotExists: true, key: `kept-${partSizeBytes}` };
      const sent = await send({ options });
      assert.equal(sent.failure, undefined);
      const place = server.objectPath(BUCKET, options.key);
      await assertImageOf(place, disk);
      // The image itself counts as arrived.
      assert.equal((await send({ options })).receipt?.proof, 'etag');
      await writeFile(place, 'the only good copy');
      const { failure } = await send({ options });
      assert.deepEqual([failure?.code, failure?.retryable], ['DestinationRejected', false], failure?.message);
      assert.equal(await readFile(place, 'utf8'), 'the only good copy');
    });

  it('drops an upload that is abandoned', async () => {
    const { saved } = await send({ context: { seal: () => Promise.reject(new DiskliftError('SourceChanged', 'changed')) } });
    const state = saved.at(-1) ?? assert.fail('nothing was saved');
    const target = s3Target({ url: server.url, options: { credentials: async () => VERSITYGW_KEYS } });
    await target.abandon(state, NEVER);
    await target.abandon(state, NEVER);
    const { saved: anew } = await send({ context: { resume: state } });
    assert.equal(anew.length, 3);
    assert.notEqual(anew[1]?.id, state.id);
  });

  it('stays below 250 MB with four parts on their way', async () => {
    const large = await createDisk(temp('large.img'), 320 * MIB, [{ offsetBytes: 0, lengthBytes: 256 * MIB, content: 'random' }]);
    const { code, stdout, stderr } = await runCommand(process.execPath, [PROCESS, server.url, large]);
    assert.equal(code, 0, stderr);
    const report = JSON.parse(stdout.toString()) as S3ProcessReport;
    assert.equal(report.code, undefined);
    assert.ok(report.sizeBytes > 256 * MIB);
    assert.ok(report.peakMemoryBytes < 250e6, `${report.peakMemoryBytes} bytes`);
  });

  it('distinguishes wrong keys, a wrong secret and a missing bucket', async () => {
    const { accessKeyId, secretAccessKey } = VERSITYGW_KEYS;
    const failureOf = async (options: NonNullable<S3Sending['options']>) => (await send({ options })).failure;
    const unknown = await failureOf({ credentials: async () => ({ accessKeyId: 'nobody', secretAccessKey }) });
    assert.match(unknown?.message ?? '', /: the access key is not known/);
    const wrong = await failureOf({ credentials: async () => ({ accessKeyId, secretAccessKey: 'guessed' }) });
    assert.match(wrong?.message ?? '', /SignatureDoesNotMatch: the secret key does not belong to the access key/);
    const missing = await failureOf({ bucket: 'elsewhere' });
    assert.match(missing?.message ?? '', /NoSuchBucket: there is no such bucket/);
    assert.deepEqual(
      [unknown, wrong, missing].map((failure) => [failure?.code, failure?.retryable]),
      [
        ['CredentialsInvalid', false],
        ['CredentialsInvalid', false],
        ['DestinationRejected', false],
      ],
    );
  });
});
