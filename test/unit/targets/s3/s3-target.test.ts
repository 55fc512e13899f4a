import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { createBufferPool } from '../../../../src/common/buffers.ts';
import { DiskliftError, type ErrorCode } from '../../../../src/common/errors.ts';
import { digestImage } from '../../../../src/image/digest.ts';
import { createDestinationPolicy, createNetworkAccess } from '../../../../src/network/destination-policy.ts';
import { type ImageInProcess, NEVER, openImage } from '../../../helpers/image-in-process.ts';
import { KEY, PART_BYTES, type S3Sending, type S3Sent, SECRET, sendToS3 } from '../../../helpers/s3-export.ts';
import { type Quirk, type S3Fake, type S3FakeOptions, startS3Fake } from '../../../helpers/s3-fake.ts';
import { createDisk } from '../../../helpers/sparse-disk.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

describe('s3 target', () => {
  const temp = useTempDir();
  let opened: ImageInProcess;
  let expected: Buffer;
  beforeEach(async () => {
    opened = await openImage(await createDisk(temp('a.img'), 8 * MIB, [{ offsetBytes: 0, lengthBytes: 1344 * KIB, content: 'random' }]));
    expected = Buffer.alloc(opened.image.sizeBytes);
    await opened.image.read(expected, 0, NEVER);
  });
  afterEach(() => opened[Symbol.asyncDispose]());

  const count = () => Math.ceil(expected.length / PART_BYTES);

  interface Case extends Omit<Partial<S3Sending>, 'url'> {
    quirks?: Quirk[];
    server?: S3FakeOptions;
    use?: (fake: S3Fake) => void;
  }

  /** Sends to a fake of its own. */
  async function send({ quirks = [], server, use, ...sending }: Case = {}): Promise<S3Sent & { fake: S3Fake }> {
    await using fake = await startS3Fake({ minPartBytes: 1, ...server });
    fake.quirks.push(...quirks);
    use?.(fake);
    return { ...(await sendToS3({ image: opened.image, url: fake.url, ...sending })), fake };
  }

  function assertArrived({ receipt, failure, fake, progress }: S3Sent & { fake: S3Fake }): void {
    assert.equal(failure, undefined);
    assert.ok(fake.store.objects.get(KEY)?.body.equals(expected), 'the object is the image');
    assert.equal(receipt?.sizeBytes, expected.length);
    assert.equal(fake.store.uploads.size, 0);
    assert.equal(progress.at(-1), expected.length);
  }

  it('sends equal parts and a short last one, and proves the object by its tag', async () => {
    const sent = await send();
    assertArrived(sent);
    const { receipt, fake, saved, progress, seals } = sent;
    assert.ok(expected.length % PART_BYTES !== 0 && count() > 4);
    assert.equal(fake.count('UploadPart'), count());
    assert.deepEqual(receipt, {
      location: `s3://images/${KEY}`,
      sizeBytes: expected.length,
      etag: fake.store.objects.get(KEY)?.etag,
      proof: 'etag',
    });
    const common = { partSizeBytes: PART_BYTES, fingerprint: opened.image.fingerprint };
    assert.match(saved[0]?.id ?? '', /^creating:\d{13}$/);
    assert.deepEqual(saved, [{ ...common, id: saved[0]?.id }, { ...common, id: `${saved[0]?.id}:upload-1` }, undefined]);
    assert.deepEqual([progress.length, progress.at(-1), seals], [count(), expected.length, 1]);
    const { metadata = {} } = fake.store.objects.get(KEY) ?? {};
    assert.deepEqual(
      [metadata['disklift-virtual-size'], metadata['disklift-cluster-size'], metadata['disklift-fingerprint']],
      [`${8 * MIB}`, '65536', opened.image.fingerprint],
    );
    assert.ok(fake.connectionCount() <= 4, `${fake.connectionCount()} connections`);
  });

  it('sends parts that are all equal', async () => {
    const sent = await send({ options: { partSizeBytes: expected.length / 2 } });
    assert.equal(expected.length % 2, 0);
    assertArrived(sent);
    assert.equal(sent.fake.count('UploadPart'), 2);
  });

  for (const [what, partSizeBytes] of [
    ['that has room left', 8 * MIB],
    ['that it fills', undefined],
  ] as const)
    it(`sends an image of one part ${what} by one request`, async () => {
      const sent = await send({ options: { partSizeBytes: partSizeBytes ?? expected.length } });
      assertArrived(sent);
      assert.deepEqual(
        sent.fake.requests.map(({ operation }) => operation),
        ['PutObject', 'HeadObject'],
      );
      assert.deepEqual([sent.receipt?.proof, sent.saved, sent.seals, sent.progress], ['etag', [], 1, [expected.length]]);
    });

  it('saves the upload before its first part', async () => {
    const { fake } = await send({
      context: { saveResume: async () => assert.equal(fakeParts(), 0) },
      use: (each) => {
        fakeParts = () => (each.store.objects.has(KEY) ? 0 : each.count('UploadPart'));
      },
    });
    assert.equal(fake.count('UploadPart'), count());
  });
  let fakeParts = () => 0;

  it('hashes the image while it is sent, and puts the SHA-256 beside it', async () => {
    for (const partSizeBytes of [PART_BYTES, 8 * MIB]) {
      const { image, sha256 } = digestImage(opened.image);
      const sent = await send({
        image,
        options: { partSizeBytes, sha256Object: true },
        context: { seal: async () => ({ sha256: await sha256(NEVER) }) },
      });
      assertArrived(sent);
      const hex = createHash('sha256').update(expected).digest('hex');
      assert.equal(sent.receipt?.sha256, hex);
      assert.equal(sent.fake.store.objects.get(`${KEY}.sha256`)?.body.toString(), `${hex}  disk.qcow2\n`);
    }
  });

  it('has the server prove a CRC of every part', async () => {
    const sent = await send({ options: { checksum: 'CRC32' } });
    assertArrived(sent);
    const parts = sent.fake.requests.filter(({ operation }) => operation === 'UploadPart');
    assert.ok(parts.every(({ headers }) => headers['x-amz-checksum-crc32'] !== undefined));
    const put = await send({ options: { checksum: 'CRC32', partSizeBytes: 8 * MIB } });
    assertArrived(put);
  });

  it('leaves no object when the seal breaks, and keeps the upload for a later decision', async () => {
    const broken = new DiskliftError('SourceChanged', 'changed');
    for (const partSizeBytes of [PART_BYTES, 8 * MIB]) {
      const { failure, fake, seals } = await send({ options: { partSizeBytes }, context: { seal: () => Promise.reject(broken) } });
      assert.equal(failure, broken);
      assert.deepEqual([fake.store.objects.size, seals], [0, 1]);
      assert.equal(fake.store.uploads.size, partSizeBytes === PART_BYTES ? 1 : 0);
      assert.equal(fake.count('CompleteMultipartUpload') + fake.count('PutObject'), 0);
    }
  });

  it('passes on failures of the source', async () => {
    const broken = new DiskliftError('SourceReadError', 'at 4711');
    const read: typeof opened.image.read = (buffer, offset, signal) =>
      offset >= 3 * PART_BYTES ? Promise.reject(broken) : opened.image.read(buffer, offset, signal);
    const { failure, fake } = await send({ image: { ...opened.image, fingerprint: 'x', read } });
    assert.equal(failure, broken);
    assert.equal(fake.store.objects.size, 0);
  });

  it('shares the buffers of the process', async () => {
    let mostBytes = 0;
    let heldBytes = 0;
    // Two of the smallest that it has.
    const pool = createBufferPool(8 * MIB);
    const buffers: typeof pool = {
      ...pool,
      async take(sizeBytes, signal) {
        const { bytes, giveBack } = await pool.take(sizeBytes, signal);
        heldBytes += sizeBytes;
        mostBytes = Math.max(mostBytes, heldBytes);
        return {
          bytes,
          giveBack(isUsable) {
            heldBytes -= sizeBytes;
            giveBack(isUsable);
          },
        };
      },
    };
    const both = await Promise.all([send({ options: { buffers } }), send({ options: { buffers } })]);
    for (const sent of both) assertArrived(sent);
    assert.deepEqual([mostBytes, heldBytes], [2 * PART_BYTES, 0]);
    const failed = await send({
      options: { buffers },
      quirks: [{ operation: 'UploadPart', after: 2, does: { status: 400, code: 'InvalidArgument' } }],
    });
    assert.equal(failed.failure?.retryable, false);
    assert.equal(heldBytes, 0);
  });

  it('has others wait for a part at most, though it reads huge ones while they are sent', async () => {
    const pool = createBufferPool(16 * MIB);
    const granted: string[] = [];
    const buffers: typeof pool = {
      async take(sizeBytes, signal) {
        const buffer = await pool.take(sizeBytes, signal);
        granted.push('buffer');
        return buffer;
      },
      async reserve(sizeBytes, signal) {
        const release = await pool.reserve(sizeBytes, signal);
        granted.push('huge part');
        return release;
      },
    };
    const options = { buffers };
    const both = await Promise.all([send({ options, limits: { maxBufferBytes: PART_BYTES - 1 } }), send({ options })]);
    for (const sent of both) assertArrived(sent);
    assert.ok(granted.indexOf('buffer') < granted.lastIndexOf('huge part'), granted.join(', '));
  });

  it('does not reuse the buffer of a failed try, which may still be sending it', async () => {
    const pool = createBufferPool(64 * MIB);
    const usable: boolean[] = [];
    const buffers: typeof pool = {
      ...pool,
      async take(sizeBytes, signal) {
        const { bytes, giveBack } = await pool.take(sizeBytes, signal);
        return {
          bytes,
          giveBack(isUsable) {
            usable.push(isUsable);
            giveBack(isUsable);
          },
        };
      },
    };
    // With new credentials a request is made once more at once.
    for (const does of [
      { status: 503, code: 'SlowDown' },
      { status: 400, code: 'ExpiredToken' },
    ]) {
      const sent = await send({ options: { buffers }, quirks: [{ operation: 'UploadPart', after: 1, times: 1, does }] });
      assertArrived(sent);
      assert.equal(sent.fake.count('UploadPart'), count() + 1);
      assert.deepEqual([usable.length, usable.filter((each) => !each).length], [count(), 1]);
      usable.length = 0;
      const options = { buffers, partSizeBytes: 8 * MIB };
      assertArrived(await send({ options }));
      assertArrived(await send({ options, quirks: [{ operation: 'PutObject', times: 1, does }] }));
      assert.deepEqual(usable.splice(0), [true, false]);
    }
  });

  it('does not connect where the policy denies it', async () => {
    const { failure, fake } = await send({ options: { access: createNetworkAccess(createDestinationPolicy({ allow: [], deny: [] })) } });
    assert.equal(failure?.code, 'DestinationNotAllowed');
    assert.equal(fake.connectionCount(), 0);
  });

  const refusals: [does: Exclude<Quirk['does'], string>, code: ErrorCode, retryable: boolean][] = [
    [{ status: 403, code: 'InvalidAccessKeyId' }, 'CredentialsInvalid', false],
    [{ status: 403, code: 'SignatureDoesNotMatch' }, 'CredentialsInvalid', false],
    [{ status: 403, code: 'AccessDenied' }, 'CredentialsInvalid', false],
    [{ status: 401, code: 'Whatever' }, 'CredentialsInvalid', false],
    [{ status: 404, code: 'NoSuchBucket' }, 'DestinationRejected', false],
    [{ status: 301, code: 'PermanentRedirect' }, 'DestinationRejected', false],
    [{ status: 400, code: 'EntityTooLarge' }, 'DestinationRejected', false],
    [{ status: 501, code: 'NotImplemented' }, 'DestinationRejected', false],
    [{ status: 400, code: 'RequestTimeout' }, 'DestinationRejected', true],
    [{ status: 429, code: 'TooManyRequests' }, 'DestinationRejected', true],
    [{ status: 500, code: 'InternalError' }, 'DestinationRejected', true],
    [{ status: 503, code: 'SlowDown' }, 'DestinationRejected', true],
  ];
  for (const [does, code, retryable] of refusals)
    it(`explains ${does.status} ${does.code}`, async () => {
      for (const [operation, partSizeBytes] of [
        ['CreateMultipartUpload', PART_BYTES],
        ['PutObject', 8 * MIB],
      ] as const) {
        const { failure } = await send({ quirks: [{ operation, does }], options: { partSizeBytes }, limits: { tries: 2, backoffMs: 1 } });
        assert.deepEqual([failure?.code, failure?.retryable], [code, retryable], failure?.message);
        assert.match(
          failure?.message ?? '',
          new RegExp(`^s3://images/vms/fedora/disk\\.qcow2 at 127\\.0\\.0\\.1:\\d+: answered ${does.status} ${does.code}`),
        );
      }
    });

  it('passes on how long the server wants to be left alone', async () => {
    const { failure, fake } = await send({
      quirks: [{ operation: 'UploadPart', does: { status: 503, code: 'SlowDown', headers: { 'Retry-After': '600' } } }],
    });
    assert.deepEqual([failure?.retryAfterMs, failure?.retryable], [600_000, true]);
    assert.ok(fake.count('UploadPart') <= 3, 'no part is sent again while the server wants to be left alone');
  });

  it('signs what travels in the clear, and asks for no leave to send', async () => {
    const { fake } = await send();
    const parts = fake.requests.filter(({ operation }) => operation === 'UploadPart');
    assert.equal(parts.length, count());
    for (const { headers } of parts) assert.match(`${headers['x-amz-content-sha256']}`, /^[0-9a-f]{64}$/);
    for (const { headers } of parts) assert.equal(headers.expect, undefined);
    assert.ok(!JSON.stringify(fake.requests).includes(SECRET));
  });

  describe('credentials', () => {
    const expired = (keys: string[]): S3FakeOptions => ({ refuseKey: (key) => (keys.includes(key) ? 'ExpiredToken' : undefined) });
    function supply(...keys: string[]) {
      const asked: string[] = [];
      const credentials = async () => {
        const accessKeyId = keys[Math.min(asked.length, keys.length - 1)] as string;
        asked.push(accessKeyId);
        return { accessKeyId, secretAccessKey: SECRET, sessionToken: 'token' };
      };
      return { asked, credentials };
    }

    it('are asked for anew when they have expired, by one request for all', async () => {
      const keys: string[] = [];
      const { asked, credentials } = supply('first', 'second');
      const sent = await send({
        server: { refuseKey: (key) => (keys.includes(key) ? 'ExpiredToken' : undefined) },
        options: { credentials },
        context: { progress: () => void (keys.length === 0 && keys.push('first')) },
      });
      assertArrived(sent);
      assert.deepEqual(asked, ['first', 'second']);
    });

    it('end the export when the new ones have expired too', async () => {
      const { asked, credentials } = supply('first', 'second', 'third');
      const { failure } = await send({ server: expired(['first', 'second', 'third']), options: { credentials } });
      assert.deepEqual([failure?.code, failure?.retryable, asked], ['CredentialsInvalid', false, ['first', 'second']]);
    });

    it('are requested again by the next request after a failure', async () => {
      const { asked, credentials } = supply('first', 'second');
      const away = new DiskliftError('DestinationUnreachable', 'the token service does not answer');
      let calls = 0;
      const sent = await send({
        server: expired(['first']),
        options: {
          credentials: async () => {
            calls += 1;
            if (calls === 2) throw away;
            return credentials();
          },
        },
      });
      assertArrived(sent);
      assert.deepEqual([asked, calls], [['first', 'second'], 3]);
    });

    it('end the export with the reason why they are missing', async () => {
      const reason = new DiskliftError('CredentialsInvalid', 'Secret vms/s3 has no AWS_ACCESS_KEY_ID');
      const { failure, fake } = await send({ options: { credentials: () => Promise.reject(reason) } });
      assert.equal(failure, reason);
      assert.equal(fake.requests.length, 0);
    });
  });

  it('refuses an endpoint that is not valid, without showing it', async () => {
    for (const endpoint of [SECRET, `ftp://x/${SECRET}`, `http://user:${SECRET}@127.0.0.1`]) {
      const { failure } = await send({ options: { endpoint } });
      assert.equal(failure?.code, 'InvalidRequest');
    }
  });
});
