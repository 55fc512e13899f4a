/** Maps errors of S3 to errors of disklift. */

import { DiskliftError } from '../../common/errors.ts';
import { parseRetryAfter } from '../../common/retry-after.ts';
import { networkError } from '../../network/network-error.ts';
import { NOT_SHOWN_IN_CLUSTER, serverMessage } from '../server-message.ts';
import type { ChecksumKind } from './checksum.ts';
import { adviceOf, isAboutSpace, partLimitOf, type S3Failure, textOf } from './refusal-advice.ts';
import { FULL, PASSING, REFUSED, REJECTED } from './s3-error-names.ts';

const EXPIRED: ReadonlySet<string> = new Set(['ExpiredToken', 'ExpiredTokenException', 'TokenRefreshRequired']);

const RETRYABLE_STATUS: ReadonlySet<number> = new Set([408, 425, 429]);

/** Whether new credentials may help. */
export function areCredentialsExpired(error: unknown): boolean {
  return EXPIRED.has((error as S3Failure).name ?? '');
}

/** Errors that a request gets whose URL, key or signature was changed on its way; wrong credentials get them as well. */
const UNVERIFIED: ReadonlySet<string> = new Set(['SignatureDoesNotMatch', 'InvalidAccessKeyId', 'XAdminUserNotFound']);

/** Whether, without TLS, the request may have been changed on its way. */
export function isUnverified(error: unknown): boolean {
  return UNVERIFIED.has((error as S3Failure).name ?? '');
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

/**
 * Whether the request's upload was aborted or completed. Servers use several names for that error; S3Proxy uses NoSuchKey.
 */
export function isUploadGone(error: unknown): boolean {
  const name = s3ErrorName(error);
  return name === 'NoSuchUpload' || (s3ErrorStatus(error) === 404 && name !== 'NoSuchBucket');
}

/**
 * Whether a read-only request was refused as such: the credentials do not allow it, or the server does not support it. False for wrong
 * credentials.
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

/** Whether the server refuses a read-only request permanently: the credentials lack the right, or the server does not support it. */
export function isLookRefused(error: unknown): boolean {
  return error instanceof DiskliftError && !error.retryable && s3ErrorStatus(error) !== undefined;
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
export function isConnectTimeout(error: unknown): boolean {
  return error instanceof Error && error.name === 'TimeoutError' && (error as NodeJS.ErrnoException).code === undefined;
}

export interface RequestFacts {
  /** The object and the server in a form that may be shown. */
  where: string;
  nowMs: number;
  /** Secrets that must not be shown; some servers repeat the signed text. */
  secrets: readonly string[];
  /** Whether the server's words may be shown. */
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
  const retryable = isFull || name in PASSING || (!(name in REJECTED) && status !== undefined && isPassing(status));
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

/** A status of success is here because what came with it made no sense. */
function isPassing(status: number): boolean {
  return status >= 500 || status < 300 || RETRYABLE_STATUS.has(status);
}
