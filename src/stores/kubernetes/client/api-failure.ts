/** The typed errors of all calls to the API server. */

import { formatBytes } from '../../../common/bytes.ts';
import { DiskliftError } from '../../../common/errors.ts';
import { parseRetryAfter } from '../../../common/retry.ts';
import { oneLine } from '../../../common/text.ts';
import type { ApiFailure } from './contract.ts';

interface Cause extends ApiFailure {
  error?: unknown;
}

/** Fields of metav1.Status. */
interface Status {
  reason?: unknown;
  message?: unknown;
}

export interface ApiAnswer {
  /** The request as messages name it: `patch diskexports/status vms/fedora`. */
  what: string;
  status: number;
  /** JSON as a rule; any text when a proxy has answered. */
  body: string;
  retryAfter?: string | undefined;
}

/** Limit of a quoted answer, so that a message stays readable. */
const MAX_MESSAGE_CHARACTERS = 400;

const KINDS: Readonly<Record<number, ApiFailure['kind']>> = {
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'NotFound',
  408: 'Unavailable',
  409: 'Conflict',
  410: 'Expired',
  429: 'Throttled',
};

/** The API server's answer; undefined for an error of another cause. */
export function apiFailureOf(error: unknown): ApiFailure | undefined {
  if (!(error instanceof DiskliftError) || !isCause(error.cause)) return undefined;
  const { kind, status } = error.cause;
  return { kind, status };
}

export function isApiFailure(error: unknown, kind: ApiFailure['kind']): boolean {
  return apiFailureOf(error)?.kind === kind;
}

/** The error of an answer with a status that is not 2xx. */
export function refusedError({ what, status, body, retryAfter }: ApiAnswer, nowMs: number): DiskliftError {
  const { reason, message } = parseStatus(body);
  const text = typeof message === 'string' && message !== '' ? message : `HTTP ${status}`;
  const kind = kindOf(status, reason, text);
  return failed({ kind, status }, `${what}: ${TITLES[kind]}: ${shortLine(text)}`, parseRetryAfter(retryAfter, nowMs));
}

function kindOf(status: number, reason: unknown, message: string): ApiFailure['kind'] {
  if (reason === 'AlreadyExists') return 'AlreadyExists';
  // The plugin ResourceQuota has no reason of its own: PODS "NAME" is forbidden: exceeded quota: QUOTA, requested: ...
  if (status === 403 && / is forbidden: exceeded quota: /.test(message)) return 'QuotaExceeded';
  return KINDS[status] ?? (status >= 500 ? 'Unavailable' : 'Invalid');
}

/** The error of a watch event of type ERROR. @param status of the event, a metav1.Status as a rule */
export function statusError(what: string, status: unknown): DiskliftError {
  const { code } = status as { code?: unknown };
  return refusedError({ what, status: typeof code === 'number' ? code : 500, body: JSON.stringify(status) }, 0);
}

/** The error of an answer that exceeds its limit of bytes. */
export function tooLargeError(what: string, maxBytes: number): DiskliftError {
  return failed({ kind: 'TooLarge' }, `${what}: ${TITLES.TooLarge}: more than ${formatBytes(maxBytes)}`);
}

/** The error of a request without a complete answer. */
export function unansweredError(what: string, error: unknown): DiskliftError {
  if (error instanceof DiskliftError) return error;
  return failed({ kind: 'Unavailable', error }, `${what}: ${TITLES.Unavailable}: ${shortLine(reasonOf(error))}`);
}

/** The error of an answer that is cut, late or malformed. */
export function unusableError(what: string, why: string): DiskliftError {
  return failed({ kind: 'Unavailable' }, `${what}: ${TITLES.Unavailable}: ${why}`);
}

const TITLES: Readonly<Record<ApiFailure['kind'], string>> = {
  NotFound: 'the API server does not have it',
  AlreadyExists: 'the API server has it already',
  Conflict: 'it was changed meanwhile',
  Expired: 'the API server does not know so far back',
  Unauthorized: 'the API server does not accept the credentials',
  Forbidden: 'the API server does not allow it',
  QuotaExceeded: 'a quota of the namespace does not allow it',
  Invalid: 'the API server does not accept it',
  Throttled: 'the API server asks for fewer requests',
  TooLarge: 'its answer is too large',
  Unavailable: 'the API server does not answer as it should',
};

/**
 * A refusal is retryable too: an administrator may correct the Role, webhook or quota while the export waits. An object
 * that is invalid stays so.
 */
function failed(cause: Cause, message: string, retryAfterMs?: number): DiskliftError {
  const isAway = cause.kind === 'Unavailable' || cause.kind === 'Throttled';
  return new DiskliftError(isAway ? 'StoreUnavailable' : 'StoreRefused', message, cause, {
    retryable: cause.kind !== 'Invalid',
    retryAfterMs,
  });
}

function isCause(cause: unknown): cause is Cause {
  return typeof cause === 'object' && cause !== null && (cause as Cause).kind in TITLES;
}

function parseStatus(body: string): Status {
  try {
    const value: unknown = JSON.parse(body);
    return typeof value === 'object' && value !== null ? value : {};
  } catch {
    return {};
  }
}

/** The message of the innermost cause, because fetch itself reports only `fetch failed`. */
function reasonOf(error: unknown): string {
  let reason = error;
  while (reason instanceof Error && reason.cause instanceof Error) reason = reason.cause;
  if (!(reason instanceof Error)) return String(reason);
  return reason.message || ((reason as NodeJS.ErrnoException).code ?? reason.name);
}

function shortLine(text: string): string {
  const line = oneLine(text);
  return line.length > MAX_MESSAGE_CHARACTERS ? `${line.slice(0, MAX_MESSAGE_CHARACTERS)}…` : line;
}
