import assert from 'node:assert/strict';
import { type ImageInProcess, openImage } from '../../../helpers/image-in-process.ts';
import { KEY, type S3Sending, sendToS3 } from '../../../helpers/s3-export.ts';
import { startS3Fake } from '../../../helpers/s3-fake.ts';
import { createDisk } from '../../../helpers/sparse-disk.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';
import { createTestAuthority, type TestAuthority } from '../../../helpers/test-authority.ts';

const MIB = 1024 * 1024;

describe('s3 target over TLS', () => {
  const temp = useTempDir();
  let opened: ImageInProcess;
  let authority: TestAuthority;
  beforeEach(async () => {
    authority = await createTestAuthority(temp(''));
    opened = await openImage(await createDisk(temp('a.img'), 8 * MIB, [{ offsetBytes: 0, lengthBytes: 5 * MIB, content: 'random' }]));
  });
  afterEach(() => opened[Symbol.asyncDispose]());

  async function send(tls: NonNullable<S3Sending['options']>['tls'], names = 'IP:127.0.0.1', demands = {}) {
    const { certificate: cert, key } = await authority.issue('server', names);
    await using fake = await startS3Fake({ minPartBytes: 1, tls: { cert, key, ...demands } });
    return { ...(await sendToS3({ image: opened.image, url: fake.url, options: { tls, partSizeBytes: MIB } })), fake };
  }

  it('trusts the authority that it was given, and leaves the bytes to TLS', async () => {
    const { receipt, failure, fake, saved } = await send({ ca: authority.ca });
    assert.equal(failure, undefined);
    assert.equal(receipt?.proof, 'etag');
    assert.equal(fake.store.objects.get(KEY)?.body.length, opened.image.sizeBytes);
    assert.equal(saved[1]?.id, 'upload-1', 'nothing can have changed the id');
    const parts = fake.requests.filter(({ operation }) => operation === 'UploadPart');
    assert.ok(parts.length > 4);
    for (const { headers } of parts) assert.equal(headers['x-amz-content-sha256'], 'UNSIGNED-PAYLOAD');
  });

  it('reports a refused signature as wrong credentials at once', async () => {
    const { certificate: cert, key } = await authority.issue('server', 'IP:127.0.0.1');
    await using fake = await startS3Fake({ secret: 'another', tls: { cert, key } });
    const { failure } = await sendToS3({ image: opened.image, url: fake.url, options: { tls: { ca: authority.ca } } });
    assert.deepEqual([failure?.code, fake.requests.length], ['CredentialsInvalid', 1]);
  });

  it('trusts no other authority, whatever the server sends', async () => {
    const unknown = await send(undefined);
    assert.match(unknown.failure?.message ?? '', /TLS: .*not trusted/);
    const other = await send({ ca: authority.ca }, 'DNS:other.example');
    assert.match(other.failure?.message ?? '', /TLS: the certificate is for another name/);
    for (const { failure, fake } of [unknown, other]) {
      assert.deepEqual([failure?.code, failure?.retryable], ['DestinationUnreachable', false]);
      assert.equal(fake.requests.length, 0);
    }
  });

  it('knows the server by another name, and shows its own certificate', async () => {
    const { certificate, key } = await authority.issue('client', 'DNS:client.example');
    const tls = { ca: authority.ca, certificate, key, serverName: 's3.example' };
    const { failure } = await send(tls, 'DNS:s3.example', { requestCert: true, rejectUnauthorized: true, ca: authority.ca });
    assert.equal(failure, undefined);
  });
});
