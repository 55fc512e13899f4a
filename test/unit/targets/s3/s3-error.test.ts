import assert from 'node:assert/strict';
import { DiskliftError, type ErrorCode } from '../../../../src/common/errors.ts';
import { compositeEtag, isTagOf } from '../../../../src/targets/s3/etag.ts';
import { s3Error, s3ErrorName, s3ErrorStatus, wasNeverSent } from '../../../../src/targets/s3/s3-error.ts';

const WHERE = 's3://images/a at s3.example';
const SECRET = 'wJalrXUtnFEMIK7MDENG';

/** As the SDK throws them. */
function failure(name: string, status?: number, headers: Record<string, string> = {}): Error {
  const facts = status === undefined ? {} : { $metadata: { httpStatusCode: status }, $response: { statusCode: status, headers } };
  return Object.assign(new Error(`echoed: ${SECRET}\nand more`), { name, ...facts });
}

describe('errors of S3', () => {
  const meanings: [error: Error, code: ErrorCode, retryable: boolean, message: string][] = [
    [failure('AccessDenied', 403), 'CredentialsInvalid', false, 'answered 403 AccessDenied: the credentials do not allow it'],
    [failure('403', 403), 'CredentialsInvalid', false, 'answered 403'],
    [failure('ExpiredToken', 400), 'CredentialsInvalid', false, 'answered 400 ExpiredToken: the credentials have expired'],
    [failure('CredentialsProviderError'), 'CredentialsInvalid', false, 'CredentialsProviderError: no credentials were found'],
    [failure('RequestTimeTooSkewed', 403), 'DestinationRejected', true, 'answered 403 RequestTimeTooSkewed: the clocks differ too much'],
    [failure('NoSuchUpload', 404), 'DestinationRejected', true, 'answered 404 NoSuchUpload: the upload is not there any more'],
    [failure('SlowDown', 503), 'DestinationRejected', true, 'answered 503 SlowDown: the server asks for fewer requests'],
    [
      failure('NotImplemented', 501),
      'DestinationRejected',
      false,
      'answered 501 NotImplemented: the server does not know this kind of request',
    ],
    [failure('Strange', 418), 'DestinationRejected', false, 'answered 418 Strange'],
    [failure(`<b>${SECRET}</b>`, 502), 'DestinationRejected', true, 'answered 502'],
    [failure('SyntaxError', 200), 'DestinationRejected', true, 'answered 200'],
    [failure('TimeoutError'), 'DestinationUnreachable', true, 'the connection timed out'],
    [Object.assign(new Error('x'), { code: 'ECONNREFUSED' }), 'DestinationUnreachable', true, 'connection refused'],
  ];
  it('tells connections that never stood from those that broke', () => {
    const coded = (code: string, name = 'Error') => Object.assign(new Error('x'), { code, name });
    const never = [failure('TimeoutError'), coded('ECONNREFUSED'), coded('ENOTFOUND'), coded('CERT_HAS_EXPIRED'), coded('ENOTUNNEL')];
    const broken = [coded('ECONNRESET', 'TimeoutError'), coded('EPIPE'), coded('EPROTO'), failure('InternalError', 500)];
    for (const error of never) assert.ok(wasNeverSent(s3Error(WHERE, new DiskliftError('DestinationUnreachable', 'x', error), 0)));
    for (const error of broken) assert.ok(!wasNeverSent(s3Error(WHERE, error, 0)), `${error}`);
    assert.match(s3Error(WHERE, coded('ECONNRESET', 'TimeoutError'), 0).message, /: the connection was reset$/);
  });

  for (const [error, code, retryable, message] of meanings)
    it(`says: ${message}`, () => {
      const typed = s3Error(WHERE, error, 0);
      assert.deepEqual([typed.code, typed.retryable, typed.message], [code, retryable, `${WHERE}: ${message}`]);
      assert.equal(typed.cause, error);
    });

  it('keeps what is typed already, the name, the status and the wait', () => {
    const refusal = new DiskliftError('DestinationNotAllowed', 'no');
    assert.equal(s3Error(WHERE, refusal, 0), refusal);
    const typed = s3Error(WHERE, failure('SlowDown', 503, { 'retry-after': '7' }), 0);
    assert.deepEqual([s3ErrorName(typed), s3ErrorStatus(typed), typed.retryAfterMs], ['SlowDown', 503, 7000]);
    assert.deepEqual([s3ErrorName(refusal), s3ErrorStatus(refusal)], [undefined, undefined]);
  });
});

describe('tags of S3', () => {
  // printf a | md5sum; printf b | md5sum; both as bytes through md5sum again.
  const [a, b, both] = ['0cc175b9c0f1b6a831c399e269772661', '92eb5ffee6ae2fec3ad71c777531578f', '96e024ba2074fe77e8e965ba43a704be'];

  it('are made of the tags of the parts', () => {
    assert.equal(compositeEtag([`"${a}"`, b]), `${both}-2`);
    assert.equal(compositeEtag([a, undefined]), undefined);
    assert.equal(compositeEtag([a, `"${both}-1"`]), undefined);
  });

  it('are compared where they are made of bytes', () => {
    assert.equal(isTagOf(a, { ETag: `"${a}"` }), true);
    assert.equal(isTagOf(a, { ETag: `"${b}"`, ServerSideEncryption: 'AES256' }), false);
    assert.equal(isTagOf(a, { ETag: `"${b}"`, ServerSideEncryption: 'aws:kms' }), undefined);
    assert.equal(isTagOf(a, { ETag: `"${b}"`, SSECustomerAlgorithm: 'AES256' }), undefined);
    assert.equal(isTagOf(a, { ETag: '"opaque"' }), undefined);
    assert.equal(isTagOf(a, {}), undefined);
    assert.equal(isTagOf(undefined, { ETag: `"${a}"` }), undefined);
    assert.equal(isTagOf(`${a}-2`, { ETag: `"${a}-3"` }), false);
    assert.equal(isTagOf(`${a}-2`, { ETag: `"${a}"` }), undefined);
  });
});
