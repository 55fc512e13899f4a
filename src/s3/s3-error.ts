/** Maps errors of S3 to errors of disklift: names, meanings, advice, and what each means for the next request. Pure. */

import { DiskliftError } from '../common/errors.ts';
import { parseRetryAfter } from '../common/retry.ts';
import { networkError } from '../network/network-error.ts';
import { NOT_SHOWN_IN_CLUSTER, serverMessage } from '../network/server-message.ts';
import type { ChecksumKind } from './session-options.ts';

const EXPIRED: ReadonlySet<string> = new Set(['ExpiredToken', 'ExpiredTokenException', 'TokenRefreshRequired']);

const RETRYABLE_STATUS: ReadonlySet<number> = new Set([408, 425, 429]);

/** Whether new credentials may help. */
export function areCredentialsExpired(error: unknown): boolean {
  return EXPIRED.has((error as S3Failure).name ?? '');
}

/**
 * Errors that a request gets whose URL, key or signature was changed on its way; wrong credentials get them as well.
 */
const UNVERIFIED: ReadonlySet<string> = new Set(['SignatureDoesNotMatch', 'InvalidAccessKeyId', 'XAdminUserNotFound']);

/** Whether, without TLS, the request may have been changed on its way. */
export function isUnverified(error: unknown): boolean {
  return UNVERIFIED.has((error as S3Failure).name ?? '');
}

/** @returns the name of S3's error; undefined where `error` is not an answer of S3 */
export function s3ErrorName(error: unknown): string | undefined {
  const { cause } = error as Error;
  return error instanceof DiskliftError ? (cause === undefined ? undefined : s3ErrorName(cause)) : (error as S3Failure).name;
}

/** @returns the status of the server's answer; undefined where the server did not answer */
export function s3ErrorStatus(error: unknown): number | undefined {
  if (error instanceof DiskliftError) return error.cause === undefined ? undefined : s3ErrorStatus(error.cause);
  const { $metadata, $response } = error as S3Failure;
  return $metadata?.httpStatusCode ?? $response?.statusCode;
}

/**
 * Whether the request's upload was aborted or completed. Servers use several names for that error; S3Proxy uses
 * NoSuchKey.
 */
export function isUploadGone(error: unknown): boolean {
  const name = s3ErrorName(error);
  return name === 'NoSuchUpload' || (s3ErrorStatus(error) === 404 && name !== 'NoSuchBucket');
}

/**
 * Whether a read-only request was refused as such: the credentials do not allow it, or the server does not support it.
 * False for wrong credentials.
 */
export function cannotLook(error: unknown): boolean {
  const name = s3ErrorName(error) ?? '';
  if (name === 'NoSuchUpload' || name === 'NoSuchBucket' || name in PASSING) return false;
  if (name in REFUSED && name !== 'AccessDenied') return false;
  return [403, 404, 405, 501].includes(s3ErrorStatus(error) ?? 0);
}

/** @returns the server's maximum number of parts, if `error` states it */
export function s3PartLimit(error: unknown): number | undefined {
  return error instanceof DiskliftError && error.cause !== undefined ? partLimitOf(error.cause as S3Failure) : undefined;
}

/**
 * Whether the server refuses a read-only request permanently: the credentials lack the right, or the server does not
 * support it.
 */
export function isLookRefused(error: unknown): boolean {
  return error instanceof DiskliftError && !error.retryable && s3ErrorStatus(error) !== undefined;
}

/** There was no connection, or one side rejected the other's certificate. */
const UNCONNECTED =
  /^(ECONNREFUSED|ENOTUNNEL|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|CERT_|ERR_TLS_CERT|SELF_SIGNED_|DEPTH_ZERO_|UNABLE_TO_|HOSTNAME_MISMATCH|INVALID_CA|ERR_SSL_\w*(CERTIFICATE|UNKNOWN_CA))/;

/** Whether `error` shows that the server cannot have had the request. */
export function wasNeverSent(error: unknown): boolean {
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause)
    if (isConnectTimeout(cause) || UNCONNECTED.test((cause as NodeJS.ErrnoException).code ?? '')) return true;
  return false;
}

/** The SDK's own limit for a connection. It calls resets so too, but those have a code. */
export function isConnectTimeout(error: unknown): boolean {
  return error instanceof Error && error.name === 'TimeoutError' && (error as NodeJS.ErrnoException).code === undefined;
}

export interface RequestFacts {
  /** The object and the server in a form that may be shown. */
  where: string;
  nowMs: number;
  /** Secrets that must not be shown; some servers repeat the signed text. */
  secrets: readonly string[];
  /** Whether the server's text may be shown. */
  mayQuote: boolean;
  checksum: ChecksumKind;
}

/** @returns one line: the name of S3's error, its meaning, advice, and the server's own sentence */
export function s3Error(error: unknown, { where, nowMs, secrets, mayQuote, checksum }: RequestFacts): DiskliftError {
  if (error instanceof DiskliftError) return error;
  const failure = error as S3Failure;
  const { name = '', $response } = failure;
  const status = s3ErrorStatus(error);
  if (isConnectTimeout(error)) return new DiskliftError('DestinationUnreachable', `${where}: the connection timed out`, error);
  if (status === undefined && !(name in REFUSED)) return networkError(where, error);
  const text = textOf(failure);
  const isFull = name in FULL || (status !== undefined && status >= 400 && isAboutSpace(text));
  const meaning = meaningOf(failure, { status, checksum, isFull });
  const shown = mayQuote || isKnown(name) ? shownName(name) : undefined;
  const answered = [status === undefined ? undefined : `answered ${status}`, shown].filter((text) => text !== undefined);
  const said = text === name || text === '' ? '' : mayQuote ? serverMessage(text, secrets) : NOT_SHOWN_IN_CLUSTER;
  const message = `${where}: ${answered.join(' ')}${meaning === undefined ? '' : `: ${meaning}`}${said}`;
  if (
    !isFull &&
    (name in REFUSED ||
      EXPIRED.has(name) ||
      ((status === 401 || status === 403 || status === 407) && !(name in PASSING) && !(name in REJECTED)))
  )
    return new DiskliftError('CredentialsInvalid', message, error);
  const retryable = isFull || name in PASSING || (!(name in REJECTED) && status !== undefined && isTemporaryStatus(status));
  const retryAfterMs = parseRetryAfter($response?.headers?.['retry-after'], nowMs);
  return new DiskliftError('DestinationRejected', message, error, { retryable, retryAfterMs });
}

interface Judged {
  status: number | undefined;
  checksum: ChecksumKind;
  isFull: boolean;
}

function meaningOf(failure: S3Failure, { status, checksum, isFull }: Judged): string | undefined {
  const { name = '' } = failure;
  if (status === 407) return 'the credentials for the proxy are missing or wrong';
  if (isFull) return FULL[name] ?? 'the server has no space left for it';
  return adviceOf(failure, status, checksum) ?? REFUSED[name] ?? REJECTED[name] ?? PASSING[name];
}

function isKnown(name: string): boolean {
  return [FULL, REFUSED, REJECTED, PASSING].some((names) => name in names) || EXPIRED.has(name);
}

/** The SDK invents names for answers that are no S3 errors. */
function shownName(name: string): string | undefined {
  return /^[A-Za-z][A-Za-z0-9.]{1,63}$/.test(name) && !['Error', 'Unknown', 'UnknownError', 'SyntaxError'].includes(name)
    ? name
    : undefined;
}

/** A status of success is an error where the body of the answer is not valid. */
function isTemporaryStatus(status: number): boolean {
  return status >= 500 || status < 300 || RETRYABLE_STATUS.has(status);
}

/** The fields of the SDK's errors that are used here. The SDK keeps fields that are not in its model. */
export interface S3Failure {
  name?: string;
  /** A text; an object where damaged XML has elements inside the message. */
  message?: unknown;
  Region?: unknown;
  Endpoint?: unknown;
  /** Present where the server's answer is an S3 error. */
  $fault?: unknown;
  /** Present where the answer is no S3 error. */
  $responseBodyText?: unknown;
  $metadata?: { httpStatusCode?: number };
  $response?: { statusCode?: number; headers?: Readonly<Record<string, string>> };
}

/** @returns the server's own text; empty where there is no text */
function textOf({ $fault, $responseBodyText, message }: S3Failure): string {
  if (typeof $responseBodyText === 'string') return $responseBodyText;
  // The SDK returns an XML element with child elements or attributes as an object.
  return $fault === undefined || typeof message !== 'string' || message === 'UnknownError' ? '' : message;
}

/** Backblaze B2 reports its caps as AccessDenied: "Cannot upload files, storage cap exceeded." */
const FULL_TEXT =
  /\b(cap|quota|limit|storage)\b[\w ]{0,20}\b(exceeded|reached)\b|\b(no|not enough|insufficient) (free |disk |storage )?space\b/i;

function isAboutSpace(text: string): boolean {
  return FULL_TEXT.test(text);
}

/** AWS: "Part number must be an integer between 1 and 10000, inclusive". */
const PART_NUMBER = /\bpart ?number\b/i;
const PART_RANGE = /\bbetween 1 and (\d{1,5})\b/i;

/** @returns the server's maximum number of parts; undefined where `failure` does not state it */
export function partLimitOf(failure: S3Failure): number | undefined {
  const text = textOf(failure);
  const limit = PART_NUMBER.test(text) ? Number(PART_RANGE.exec(text)?.[1] ?? 0) : 0;
  return limit > 0 ? limit : undefined;
}

/** Ceph RGW counts parts only when the upload is completed, and reports too many of them as an invalid range. */
function isAboutParts(failure: S3Failure): boolean {
  return failure.name === 'InvalidRange' || (failure.name === 'InvalidArgument' && PART_NUMBER.test(textOf(failure)));
}

/** "x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters" */
const WANTS_CHECKSUM = /content-md5.*x-amz-checksum|x-amz-checksum.*required/i;

/** "the region 'us-east-1' is wrong; expecting 'eu-central-1'" */
const EXPECTED_REGION = /\bexpecting '([a-z0-9-]{1,40})'/;
const REGION = /^[a-z0-9-]{1,40}$/;
const HOST = /^[a-zA-Z0-9.:-]{1,253}$/;

/** @returns the setting to change; undefined where the error gives no more than its name */
function adviceOf(failure: S3Failure, status: number | undefined, checksum: ChecksumKind): string | undefined {
  const { name = '', Region, Endpoint, $response } = failure;
  if (isAboutParts(failure)) return 'the server takes fewer parts: set maxParts, or a larger partSize';
  if (status === 501 && checksum !== 'None')
    return 'the server does not know this kind of request; should it be the checksum that it does not know, leave `checksum` out';
  if (WANTS_CHECKSUM.test(textOf(failure)) && checksum === 'None')
    return 'the bucket requires a checksum with each request, as with Object Lock: set `checksum` to CRC32';
  if (status !== 301 && status !== 307 && !['PermanentRedirect', 'AuthorizationHeaderMalformed'].includes(name)) return undefined;
  const expected = EXPECTED_REGION.exec(textOf(failure))?.[1];
  const region = [$response?.headers?.['x-amz-bucket-region'], Region, expected].find(
    (each) => typeof each === 'string' && REGION.test(each),
  );
  if (region !== undefined) return `the bucket is in another region: set region to ${region}`;
  if (typeof Endpoint === 'string' && HOST.test(Endpoint)) return `the bucket is at another endpoint: ${Endpoint}`;
  return undefined;
}

/**
 * Names of S3's errors with their meanings ("Error responses" in the API reference of Amazon S3). Other servers use the
 * same names.
 */

type Meanings = Readonly<Record<string, string>>;

/** The credentials are wrong or not sufficient. Not retryable. */
const REFUSED: Meanings = {
  InvalidAccessKeyId: 'the access key is not known',
  // Error names of versitygw.
  XAdminUserNotFound: 'the access key is not known',
  SignatureDoesNotMatch: 'the secret key does not belong to the access key',
  AccessDenied: 'the credentials do not allow it',
  InvalidToken: 'the session token is not valid',
  CredentialsProviderError: 'no credentials were found',
  ExpiredToken: 'the credentials have expired',
  TokenRefreshRequired: 'the credentials have expired',
};

/** Not retryable, even with a status that is retryable otherwise. */
const REJECTED: Meanings = {
  NoSuchBucket: 'there is no such bucket',
  PermanentRedirect: 'the bucket is in another region or at another endpoint',
  AuthorizationHeaderMalformed: 'the bucket is in another region',
  EntityTooLarge: 'the image is too large for the server',
  EntityTooSmall: 'the server requires larger parts: set partSize',
  InvalidBucketName: 'the name of the bucket is not valid',
  KeyTooLongError: 'the key is too long',
  NotImplemented: 'the server does not know this kind of request',
  PreconditionFailed:
    'there is an object at the key already, perhaps from a request of this export whose answer was lost; the server replaces none',
  // Error names of Alibaba Cloud OSS.
  SecondLevelDomainForbidden: 'the server requires the bucket in the host name: set forcePathStyle: false',
};

/** Retryable in spite of 4xx: the next attempt finds the parts or the upload that are gone. */
const PASSING: Meanings = {
  NoSuchUpload: 'the upload is not there any more',
  InvalidPart: 'a part is not there any more',
  RequestTimeout: 'the server has waited too long for bytes',
  RequestTimeTooSkewed: 'the clocks differ too much',
  BadDigest: 'the bytes arrived changed',
  XAmzContentSHA256Mismatch: 'the bytes arrived changed',
  SlowDown: 'the server asks for fewer requests',
  OperationAborted: 'another request is changing the same object',
  ConditionalRequestConflict: 'another request is changing the same object',
};

const QUOTA = 'the quota is used up';
const NO_SPACE = 'the server has no space left';

/** Retryable, because old images are removed all the time. Most come as 403, but the credentials are not the cause. */
const FULL: Meanings = {
  // Error names of Ceph RGW, MinIO and OpenStack Swift.
  QuotaExceeded: QUOTA,
  XMinioAdminBucketQuotaExceeded: QUOTA,
  ServiceQuotaExceededException: QUOTA,
  XMinioStorageFull: NO_SPACE,
  StorageFull: NO_SPACE,
  InsufficientStorage: NO_SPACE,
};
