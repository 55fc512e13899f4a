/** Judges an answer to an upload (RFC 9110, section 15). */

import { DiskliftError, type ErrorCode } from '../../common/errors.ts';
import { parseRetryAfter } from '../../common/retry.ts';
import { NOT_SHOWN_BEHIND_REDIRECT, NOT_SHOWN_IN_CLUSTER, repeatsSecret, serverMessage } from '../../network/server-message.ts';
import type { Answer } from './answer.ts';
import { type Origin, publicFolder, publicUrl, secretsOf } from './origin.ts';

export type Verdict = 'arrived' | 'redirect' | 'expectation failed' | DiskliftError;

/** Temporary: another attempt may succeed (RFC 9110 and, for 425 and 429, RFC 8470 and RFC 6585). */
const RETRYABLE_STATUS: ReadonlySet<number> = new Set([408, 425, 429]);

/**
 * A server that took bytes had accepted the request, so these are storage failures: Go's webdav answers 405 when its
 * disk is full.
 */
const RETRYABLE_BEHIND_BYTES: ReadonlySet<number> = new Set([404, 405, 409]);

/** Success statuses that do not confirm the whole image. */
const NO_SUCCESS: Readonly<Record<number, string>> = {
  // The server has only promised to look at it later (RFC 9110, section 15.3.3).
  202: 'accepted, but not stored yet',
  206: 'a part, where the whole image was sent',
};

const MEANINGS: Readonly<Record<number, string>> = {
  401: 'the credentials are missing or wrong',
  403: 'the credentials do not allow it, or have expired',
  404: 'there is no such place',
  405: 'the server does not take this method here',
  407: 'the credentials for the proxy are missing or wrong',
  409: 'there is a conflict with what is there',
  411: 'the server requires a length, which a proxy may have removed',
  412: 'there is something at that place already',
  413: 'the image is too large for the server',
  415: 'the server does not take this kind of content',
  423: 'the place is locked by a WebDAV client',
  501: 'the server does not know this method',
  507: 'the server has no space left',
  508: 'the server runs in a circle',
};

export interface Asked {
  method: 'PUT' | 'POST';
  origin: Origin;
  nowMs: number;
  /** Whether an earlier attempt of this export has sent bytes that the server may have stored. */
  hasSentBefore: boolean;
}

export function judgeAnswer(answer: Answer, asked: Asked): Verdict {
  const { status } = answer;
  if (status === 417) return 'expectation failed';
  if (status === 307 || status === 308) return 'redirect';
  return status >= 200 && status < 300 ? judgeSuccess(answer, asked) : refusalOf(answer, asked);
}

function judgeSuccess(answer: Answer, asked: Asked): Verdict {
  const { status, wasComplete } = answer;
  const where = publicUrl(asked.origin);
  if (!wasComplete)
    return failure('DestinationRejected', `${where}: answered ${status} before it had the whole image`, { retryable: true });
  const what = NO_SUCCESS[status];
  if (what !== undefined) return failure('DestinationRejected', `${where}: answered ${status}: ${what}`);
  const part = failedPart(answer);
  return part === undefined ? 'arrived' : refusalOf(answer, asked, part);
}

/** @param inner the status of a failure inside a success, or 0 where the text states none */
function refusalOf(answer: Answer, asked: Asked, inner?: number): DiskliftError {
  const { headers, takenBytes } = answer;
  const status = inner ?? answer.status;
  const { origin, nowMs, hasSentBefore } = asked;
  const answered = inner === undefined ? `answered ${status}` : `answered ${answer.status} with ${inner || 'a failure'} inside`;
  const meaning = meaningOf(status, answer, asked);
  const said = quoted(answer, origin);
  const message = `${publicUrl(origin)}: ${answered}${meaning === undefined ? '' : `: ${meaning}`}${said}`;
  // A 403 may concern the object of an earlier attempt, which may not be replaced; then the credentials are not the
  // cause.
  if (status === 401 || (status === 403 && !hasSentBefore) || status === 407) return failure('CredentialsInvalid', message);
  // A server locks a file while it takes one: a request whose connection was cut may still hold the lock for a moment.
  const isOwnLock = status === 423 && hasSentBefore;
  const retryable =
    status === 0 || status >= 500 || isOwnLock || RETRYABLE_STATUS.has(status) || (takenBytes > 0 && RETRYABLE_BEHIND_BYTES.has(status));
  return failure('DestinationRejected', message, { retryable, retryAfterMs: parseRetryAfter(headers['retry-after'], nowMs) });
}

function meaningOf(status: number, answer: Answer, asked: Asked): string | undefined {
  const { headers, takenBytes } = answer;
  const meaning = MEANINGS[status];
  if (status >= 300 && status < 400) return movedTo(answer, asked.origin);
  if (status === 401) return `${meaning}${shownWords(askedSchemes(headers['www-authenticate']), answer, asked.origin)}`;
  if (status === 405 && takenBytes === 0) return `${meaning}${shownWords(allowedMethods(headers.allow), answer, asked.origin)}`;
  if (status === 409 || status === 412) {
    const folder = status === 409 && asked.method === 'PUT' ? `${missingFolder(asked.origin)}, or ` : '';
    return `${folder}${meaning}${asked.hasSentBefore ? ', perhaps from an earlier attempt of this export' : ''}`;
  }
  if (status === 404 && takenBytes === 0 && asked.method === 'PUT') return `${meaning}; ${missingFolder(asked.origin)}`;
  if (takenBytes > 0 && RETRYABLE_BEHIND_BYTES.has(status)) return 'the server has taken bytes and could not store them; is its disk full?';
  if (status === 423 && asked.hasSentBefore) return `${meaning}, or still by an earlier attempt of this export`;
  if (status === 403 && asked.hasSentBefore)
    return `${meaning}; or an earlier attempt has left bytes there that must not be replaced: remove them, or let the server replace files`;
  return meaning;
}

/** WebDAV (RFC 4918, section 9.7.1): a PUT beneath a collection that does not exist is a conflict. */
function missingFolder(origin: Origin): string {
  return `the folder ${publicFolder(origin)} may not exist (create it, or set createCollections)`;
}

function movedTo(answer: Answer, origin: Origin): string {
  const { location } = answer.headers;
  const url = location !== undefined && URL.canParse(location, origin.url.href) ? new URL(location, origin.url) : undefined;
  const target = url === undefined ? '' : shownWords(serverMessage(publicUrl({ ...origin, url }), []), answer, origin);
  return `the place has another URL; send the image there${target}`;
}

/** The server's own text in brackets, or why it is not shown. */
function quoted({ text, mayQuote }: Answer, origin: Origin): string {
  if (mayQuote || text.trim() === '') return serverMessage(text, secretsOf(origin));
  return origin.isElsewhere ? NOT_SHOWN_BEHIND_REDIRECT : NOT_SHOWN_IN_CLUSTER;
}

/**
 * @returns an empty text where `text`, which the server has chosen, must not be shown or repeats a secret of the
 * request
 */
function shownWords(text: string, { mayQuote }: Answer, origin: Origin): string {
  return mayQuote && !repeatsSecret(text, secretsOf(origin)) ? text : '';
}

/** Only the names of the schemes, without their parameters. */
function askedSchemes(header: string | undefined): string {
  const schemes = header?.match(/(?:^|,\s*)[A-Za-z][A-Za-z0-9-]*(?=\s|,|$)/g)?.map((scheme) => scheme.replace(/^,\s*/, '')) ?? [];
  if (schemes.length === 0) return '';
  const known = schemes.some((scheme) => /^(basic|bearer)$/i.test(scheme));
  return `; the server asks for ${schemes.slice(0, 4).join(', ')}${known ? '' : ', which is not supported'}`;
}

function allowedMethods(header: string | undefined): string {
  const methods = header?.match(/[A-Za-z]{1,20}/g) ?? [];
  return methods.length === 0 ? '' : `, only ${methods.slice(0, 20).join(', ')}`;
}

function failure(code: ErrorCode, message: string, facts?: { retryable?: boolean; retryAfterMs?: number | undefined }): DiskliftError {
  return new DiskliftError(code, message, undefined, facts);
}

/** Status of one resource in a 207 (RFC 4918, section 13). */
const STATUS_LINE = /HTTP\/[0-9.]+\s+([1-5]\d\d)/g;

/** Object stores that send the status before the end of their work report a later failure in the text. */
const ERROR_DOCUMENT = /^\s*(?:<\?xml[^>]*>\s*)?<Error[\s>]/;

/**
 * @returns the status of the first failure; 0 for a failure, or a possible one, without a status; undefined for a
 * success. A 207 must name at least one success and be complete, because a missing part may name the failure.
 */
function failedPart({ status, text, isTextWhole }: Pick<Answer, 'status' | 'text' | 'isTextWhole'>): number | undefined {
  if (ERROR_DOCUMENT.test(text)) return 0;
  if (status !== 207) return undefined;
  const inner = [...text.matchAll(STATUS_LINE)].map((match) => Number(match[1]));
  const failed = inner.find((each) => each >= 300);
  return failed ?? (isTextWhole && inner.length > 0 ? undefined : 0);
}
