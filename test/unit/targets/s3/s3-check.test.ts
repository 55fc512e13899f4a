/** Bucket and credentials are checked before the scan; only a sure refusal ends the attempt. */

import assert from 'node:assert/strict';
import { DiskliftError, type ErrorCode } from '../../../../src/common/errors.ts';
import { NEVER } from '../../../helpers/image-in-process.ts';
import { s3Target } from '../../../helpers/s3-export.ts';
import { type Quirk, type S3Fake, startS3Fake } from '../../../helpers/s3-fake.ts';

describe('s3 target before the scan', () => {
  let fake: S3Fake;
  beforeEach(async () => {
    fake = await startS3Fake();
  });
  afterEach(() => fake[Symbol.asyncDispose]());

  async function check(does?: Quirk['does'], options: Parameters<typeof s3Target>[0]['options'] = {}): Promise<DiskliftError | undefined> {
    if (does !== undefined) fake.quirks.push({ operation: 'ListMultipartUploads', does });
    const target = s3Target({ url: fake.url, options, limits: { silentMs: 300 } });
    try {
      await (target.check ?? assert.fail('there is no check'))(NEVER);
      return undefined;
    } catch (error) {
      assert.ok(error instanceof DiskliftError, String(error));
      return error;
    }
  }

  it('asks one thing, and leaves nothing', async () => {
    assert.equal(await check(), undefined);
    assert.deepEqual(
      fake.requests.map(({ operation }) => operation),
      ['ListMultipartUploads'],
    );
    assert.equal(fake.store.uploads.size, 0);
  });

  for (const [status, code, expected] of [
    [404, 'NoSuchBucket', 'DestinationRejected'],
    [403, 'InvalidAccessKeyId', 'CredentialsInvalid'],
    [403, 'SignatureDoesNotMatch', 'CredentialsInvalid'],
    [400, 'AuthorizationHeaderMalformed', 'DestinationRejected'],
    [400, 'InvalidToken', 'CredentialsInvalid'],
  ] as const satisfies [number, string, ErrorCode][])
    it(`refuses what the upload would be refused: ${code}`, async () => {
      const failure = await check({ status, code });
      assert.deepEqual([failure?.code, failure?.retryable], [expected, false], failure?.message);
      assert.match(failure?.message ?? '', new RegExp(code));
    });

  for (const [status, code] of [
    [403, 'AccessDenied'],
    [403, 'AllAccessDisabled'],
    [501, 'NotImplemented'],
    [405, 'MethodNotAllowed'],
    [503, 'SlowDown'],
    [500, 'InternalError'],
  ] as const)
    it(`passes where the upload may still work: ${status} ${code}`, async () => {
      assert.equal(await check({ status, code }), undefined);
    });

  it('fails when there are no credentials', async () => {
    const missing = new DiskliftError('CredentialsInvalid', 'the Secret is missing', undefined, { retryable: true });
    assert.equal(await check(undefined, { credentials: () => Promise.reject(missing) }), missing);
    assert.deepEqual(fake.requests, []);
  });

  it('fails, worth another try, when the server does not answer', async () => {
    const failure = await check('hang');
    assert.deepEqual([failure?.code, failure?.retryable], ['DestinationUnreachable', true]);
    assert.match(failure?.message ?? '', /no answer/);
  });
});
