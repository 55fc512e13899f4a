/** What S3's answers mean. "Error responses" in the API reference of Amazon S3; other servers use the same names. */

import { DiskliftError } from '../../common/errors.ts';
import { parseRetryAfter } from '../../common/retry-after.ts';
import { networkError } from '../network-error.ts';

/** What the SDK's errors have in common, as far as it is looked at. */
interface S3Failure {
  name?: string;
  $metadata?: { httpStatusCode?: number };
  $response?: { statusCode?: number; headers?: Readonly<Record<string, string>> };
}

const EXPIRED: ReadonlySet<string> = new Set(['ExpiredToken', 'ExpiredTokenException', 'TokenRefreshRequired']);

const REFUSED: Readonly<Record<string, string>> = {
  InvalidAccessKeyId: 'the access key is not known',
  // versitygw says it like that.
  XAdminUserNotFound: 'the access key is not known',
  SignatureDoesNotMatch: 'the secret key does not belong to the access key',
  AccessDenied: 'the credentials do not allow it',
  InvalidToken: 'the session token is not valid',
  CredentialsProviderError: 'no credentials were found',
  ExpiredToken: 'the credentials have expired',
  TokenRefreshRequired: 'the credentials have expired',
};

/** Final, though another status might come with them. */
const REJECTED: Readonly<Record<string, string>> = {
  NoSuchBucket: 'there is no such bucket',
  PermanentRedirect: 'the bucket is in another region or at another endpoint',
  AuthorizationHeaderMalformed: 'the bucket is in another region',
  EntityTooLarge: 'the image is too large for the server',
  EntityTooSmall: 'the server wants larger parts: set partSize',
  InvalidBucketName: 'the name of the bucket is not valid',
  KeyTooLongError: 'the key is too long',
  NotImplemented: 'the server does not know this kind of request',
};

/** May pass, though they come as 4xx: parts or an upload that are gone are found missing by the next attempt. */
const PASSING: Readonly<Record<string, string>> = {
  NoSuchUpload: 'the upload is not there any more',
  InvalidPart: 'a part is not there any more',
  RequestTimeout: 'the server has waited too long for bytes',
  RequestTimeTooSkewed: 'the clocks differ too much',
  BadDigest: 'the bytes arrived changed',
  XAmzContentSHA256Mismatch: 'the bytes arrived changed',
  SlowDown: 'the server asks for fewer requests',
  OperationAborted: 'another request is changing the same object',
};

const RETRYABLE_STATUS: ReadonlySet<number> = new Set([408, 425, 429]);

/** Whether new credentials may help. */
export function areCredentialsExpired(error: unknown): boolean {
  return EXPIRED.has((error as S3Failure).name ?? '');
}

/** The name of S3's error, or undefined when `error` is none of its answers. */
export function s3ErrorName(error: unknown): string | undefined {
  const { cause } = error as Error;
  return error instanceof DiskliftError ? (cause === undefined ? undefined : s3ErrorName(cause)) : (error as S3Failure).name;
}

/** The status of the answer that `error` is about, or undefined when there was none. */
export function s3ErrorStatus(error: unknown): number | undefined {
  if (error instanceof DiskliftError) return error.cause === undefined ? undefined : s3ErrorStatus(error.cause);
  const { $metadata, $response } = error as S3Failure;
  return $metadata?.httpStatusCode ?? $response?.statusCode;
}

/** There was no connection, or one side did not like the other's certificate. */
const UNCONNECTED =
  /^(ECONNREFUSED|ENOTUNNEL|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|CERT_|ERR_TLS_CERT|SELF_SIGNED_|DEPTH_ZERO_|UNABLE_TO_|HOSTNAME_MISMATCH|INVALID_CA|ERR_SSL_\w*(CERTIFICATE|UNKNOWN_CA))/;

/** Whether `error` shows that the server cannot have had the request. */
export function wasNeverSent(error: unknown): boolean {
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause)
    if (isConnectTimeout(cause) || UNCONNECTED.test((cause as NodeJS.ErrnoException).code ?? '')) return true;
  return false;
}

/** The SDK's own limit for a connection. It calls resets so too, but those have a code. */
function isConnectTimeout(error: Error): boolean {
  return error.name === 'TimeoutError' && (error as NodeJS.ErrnoException).code === undefined;
}

/**
 * @param where the object and the server as they may be shown
 * @returns one line that says nothing but what is known here: servers have been seen to echo what was signed
 */
export function s3Error(where: string, error: unknown, nowMs: number): DiskliftError {
  if (error instanceof DiskliftError) return error;
  const { name = '', $response } = error as S3Failure;
  const status = s3ErrorStatus(error);
  if (isConnectTimeout(error as Error)) return new DiskliftError('DestinationUnreachable', `${where}: the connection timed out`, error);
  if (status === undefined && !(name in REFUSED)) return networkError(where, error);
  const shownName =
    /^[A-Za-z][A-Za-z0-9.]{1,63}$/.test(name) && !['Error', 'UnknownError', 'SyntaxError'].includes(name) ? name : undefined;
  const meaning = REFUSED[name] ?? REJECTED[name] ?? PASSING[name];
  const answered = [status === undefined ? undefined : `answered ${status}`, shownName].filter((text) => text !== undefined).join(' ');
  const message = `${where}: ${answered}${meaning === undefined ? '' : `: ${meaning}`}`;
  if (name in REFUSED || EXPIRED.has(name) || ((status === 401 || status === 403) && !(name in PASSING)))
    return new DiskliftError('CredentialsInvalid', message, error);
  const retryable = name in PASSING || (!(name in REJECTED) && status !== undefined && isPassing(status));
  const retryAfterMs = parseRetryAfter($response?.headers?.['retry-after'], nowMs);
  return new DiskliftError('DestinationRejected', message, error, { retryable, retryAfterMs });
}

/** A status of success is here because what came with it made no sense. */
function isPassing(status: number): boolean {
  return status >= 500 || status < 300 || RETRYABLE_STATUS.has(status);
}
