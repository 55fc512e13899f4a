import assert from 'node:assert/strict';
import { DiskliftError, type ErrorCode } from '../../../src/common/errors.ts';
import { s3Error as errorOf, partLimitOf, s3ErrorName, s3ErrorStatus, wasNeverSent } from '../../../src/s3/s3-error.ts';
import type { ChecksumKind } from '../../../src/s3/session-options.ts';
import { compositeEtag, isTagOf } from '../../../src/targets/s3/part-proof.ts';

const WHERE = 's3://images/a at s3.example';
const SECRET = 'wJalrXUtnFEMIK7MDENG';

interface Answered {
  text?: string;
  headers?: Record<string, string>;
  Region?: string;
  Endpoint?: string;
}

/** As the SDK throws them. */
function failure(name: string, status?: number, { text = `echoed: ${SECRET}\nand more`, headers = {}, ...fields }: Answered = {}): Error {
  const facts =
    status === undefined ? {} : { $fault: 'client', $metadata: { httpStatusCode: status }, $response: { statusCode: status, headers } };
  return Object.assign(new Error(text), { name, ...facts, ...fields });
}

/** An answer that is not XML. */
function page(status: number, text: string): Error {
  return Object.assign(new Error('XML parse error'), { $metadata: { httpStatusCode: status }, $responseBodyText: text });
}

const s3Error = (error: unknown, checksum: ChecksumKind = 'None') =>
  errorOf(error, { where: WHERE, nowMs: 0, secrets: [SECRET], mayQuote: true, checksum });

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
  it('stand for a status alone where damaged XML leaves a message that is no text', () => {
    const damaged = Object.assign(failure('InternalError', 500), { message: { '#text': 'a', b: 'c' } });
    assert.equal(s3Error(damaged).message, `${WHERE}: answered 500 InternalError`);
  });

  it('distinguishes connections that were never open from broken ones', () => {
    const coded = (code: string, name = 'Error') => Object.assign(new Error('x'), { code, name });
    const never = [failure('TimeoutError'), coded('ECONNREFUSED'), coded('ENOTFOUND'), coded('CERT_HAS_EXPIRED'), coded('ENOTUNNEL')];
    const broken = [coded('ECONNRESET', 'TimeoutError'), coded('EPIPE'), coded('EPROTO'), failure('InternalError', 500)];
    for (const error of never) assert.ok(wasNeverSent(s3Error(new DiskliftError('DestinationUnreachable', 'x', error))));
    for (const error of broken) assert.ok(!wasNeverSent(s3Error(error)), `${error}`);
    assert.match(s3Error(coded('ECONNRESET', 'TimeoutError')).message, /: the connection was reset$/);
  });

  for (const [error, code, retryable, message] of meanings)
    it(`says: ${message}`, () => {
      const typed = s3Error(error);
      assert.deepEqual([typed.code, typed.retryable, typed.message], [code, retryable, `${WHERE}: ${message}`]);
      assert.equal(typed.cause, error);
    });

  it('keeps what is typed already, the name, the status and the wait', () => {
    const refusal = new DiskliftError('DestinationNotAllowed', 'no');
    assert.equal(s3Error(refusal), refusal);
    const typed = s3Error(failure('SlowDown', 503, { headers: { 'retry-after': '7' } }));
    assert.deepEqual([s3ErrorName(typed), s3ErrorStatus(typed), typed.retryAfterMs], ['SlowDown', 503, 7000]);
    assert.deepEqual([s3ErrorName(refusal), s3ErrorStatus(refusal)], [undefined, undefined]);
  });
});

describe('refusals of S3 that only the server can explain', () => {
  const LOCKED = 'Content-MD5 OR x-amz-checksum- HTTP header is required for Put Part requests with Object Lock parameters';
  const RANGE = 'Part number must be an integer between 1 and 1000, inclusive';
  const CAPPED = 'Cannot upload files, storage cap exceeded.';
  const refusals: [error: Error, code: ErrorCode, retryable: boolean, message: string][] = [
    [
      failure('InvalidRequest', 400, { text: LOCKED }),
      'DestinationRejected',
      false,
      `answered 400 InvalidRequest: the bucket requires a checksum with each request, as with Object Lock: set \`checksum\` to CRC32 (${LOCKED})`,
    ],
    [
      failure('InvalidArgument', 400, { text: RANGE }),
      'DestinationRejected',
      false,
      `answered 400 InvalidArgument: the server takes fewer parts: set maxParts, or a larger partSize (${RANGE})`,
    ],
    [
      failure('InvalidRange', 416, { text: 'InvalidRange' }),
      'DestinationRejected',
      false,
      'answered 416 InvalidRange: the server takes fewer parts: set maxParts, or a larger partSize',
    ],
    [
      failure('InvalidArgument', 400, { text: 'Part of the key is wrong' }),
      'DestinationRejected',
      false,
      'answered 400 InvalidArgument (Part of the key is wrong)',
    ],
    [failure('QuotaExceeded', 403, { text: '' }), 'DestinationRejected', true, 'answered 403 QuotaExceeded: the quota is used up'],
    [
      failure('AccessDenied', 403, { text: CAPPED }),
      'DestinationRejected',
      true,
      `answered 403 AccessDenied: the server has no space left for it (${CAPPED})`,
    ],
    [
      failure('XMinioStorageFull', 507, { text: 'Please delete a few objects to proceed.' }),
      'DestinationRejected',
      true,
      'answered 507 XMinioStorageFull: the server has no space left (Please delete a few objects to proceed.)',
    ],
    [
      failure('AllAccessDisabled', 403, { text: 'Ask the owner' }),
      'CredentialsInvalid',
      false,
      'answered 403 AllAccessDisabled (Ask the owner)',
    ],
    [
      failure('PermanentRedirect', 301, { text: '', Endpoint: 'b.s3.eu-west-1.amazonaws.com' }),
      'DestinationRejected',
      false,
      'answered 301 PermanentRedirect: the bucket is at another endpoint: b.s3.eu-west-1.amazonaws.com',
    ],
    [
      failure('PermanentRedirect', 301, { text: '', Endpoint: 'https://user:word@x', headers: { 'x-amz-bucket-region': 'eu-west-1' } }),
      'DestinationRejected',
      false,
      'answered 301 PermanentRedirect: the bucket is in another region: set region to eu-west-1',
    ],
    [
      failure('PermanentRedirect', 301, { text: '', Endpoint: 'https://user:word@x', Region: 'no region\n' }),
      'DestinationRejected',
      false,
      'answered 301 PermanentRedirect: the bucket is in another region or at another endpoint',
    ],
    [
      failure('AuthorizationHeaderMalformed', 400, { text: '', Region: 'eu-central-1' }),
      'DestinationRejected',
      false,
      'answered 400 AuthorizationHeaderMalformed: the bucket is in another region: set region to eu-central-1',
    ],
    [
      failure('AuthorizationHeaderMalformed', 400, { text: "expecting 'eu-west-3'" }),
      'DestinationRejected',
      false,
      "answered 400 AuthorizationHeaderMalformed: the bucket is in another region: set region to eu-west-3 (expecting 'eu-west-3')",
    ],
    [
      failure('SecondLevelDomainForbidden', 403, { text: '' }),
      'DestinationRejected',
      false,
      'answered 403 SecondLevelDomainForbidden: the server requires the bucket in the host name: set forcePathStyle: false',
    ],
    [page(503, '<html><h1>Down</h1>for maintenance'), 'DestinationRejected', true, 'answered 503 (Down for maintenance)'],
    [page(502, `<b>${SECRET}</b>`), 'DestinationRejected', true, 'answered 502'],
    [failure('Unknown', 503, { text: 'UnknownError' }), 'DestinationRejected', true, 'answered 503'],
  ];
  for (const [error, code, retryable, message] of refusals)
    it(`says: ${message}`, () => {
      const typed = s3Error(error);
      assert.deepEqual([typed.code, typed.retryable, typed.message], [code, retryable, `${WHERE}: ${message}`]);
    });

  it('names the checksum where the server may not support it, and does not request one that is set', () => {
    const unknown = failure('NotImplemented', 501, { text: 'A header you provided implies functionality that is not implemented' });
    assert.match(s3Error(unknown, 'CRC32').message, /leave `checksum` out \(A header you provided/);
    assert.doesNotMatch(s3Error(unknown).message, /`checksum`/);
    assert.doesNotMatch(s3Error(failure('InvalidRequest', 400, { text: LOCKED }), 'CRC32').message, /set `checksum`/);
  });

  it('shows no code of Node without words', () => {
    const coded = (code: string) => s3Error(Object.assign(new Error('x'), { code })).message;
    assert.equal(coded('ERR_STREAM_DESTROYED'), `${WHERE}: the connection was closed`);
    assert.equal(coded('ERR_STREAM_PREMATURE_CLOSE'), `${WHERE}: the connection was closed`);
    assert.equal(coded('HPE_INVALID_CONSTANT'), `${WHERE}: the answer is not valid HTTP (HPE_INVALID_CONSTANT)`);
    assert.equal(coded('EMFILE'), `${WHERE}: this process has too many open files`);
    assert.equal(coded('ESTRANGE'), `${WHERE}: the connection failed (ESTRANGE)`);
  });

  it('reads how many parts the server takes', () => {
    const limit = (text: string) => partLimitOf(failure('InvalidArgument', 400, { text }));
    assert.deepEqual(
      [limit(RANGE), limit('partNumber is too large'), limit('The key must be between 1 and 7')],
      [1000, undefined, undefined],
    );
  });
});

describe('tags of S3', () => {
  // printf a | md5sum; printf b | md5sum; both as bytes through md5sum again.
  const [a, b, both] = ['0cc175b9c0f1b6a831c399e269772661', '92eb5ffee6ae2fec3ad71c777531578f', '96e024ba2074fe77e8e965ba43a704be'];

  it('are made of the MD5s of the parts', () => {
    assert.equal(compositeEtag([a, b]), `${both}-2`);
  });

  it('are compared where they are made of bytes', () => {
    assert.equal(isTagOf(a, { ETag: `"${a}"` }), true);
    assert.equal(isTagOf(a, { ETag: `"${b}"`, ServerSideEncryption: 'AES256' }), false);
    assert.equal(isTagOf(a, { ETag: `"${b}"`, ServerSideEncryption: 'aws:kms' }), undefined);
    assert.equal(isTagOf(a, { ETag: `"${b}"`, SSECustomerAlgorithm: 'AES256' }), undefined);
    assert.equal(isTagOf(a, { ETag: '"opaque"' }), undefined);
    assert.equal(isTagOf(a, {}), undefined);
    assert.equal(isTagOf(a, { ETag: `"${a}"`, ServerSideEncryption: 'aws:kms' }), true);
    assert.equal(isTagOf(a, { ETag: a.toUpperCase() }), true);
    assert.equal(isTagOf(`${a}-2`, { ETag: `"${a}-3"` }), false);
    assert.equal(isTagOf(`${a}-2`, { ETag: `"${a}"` }), undefined);
  });
});
