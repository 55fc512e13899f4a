/** What an answer to an upload means. RFC 9110, section 15. */

import { DiskliftError, type ErrorCode } from '../../common/errors.ts';
import { parseRetryAfter } from '../../common/retry-after.ts';
import { serverMessage } from '../server-message.ts';

export interface Answer {
  status: number;
  headers: Readonly<Record<string, string | undefined>>;
  /** The beginning of what the server has said. */
  text: string;
  /** Whether the whole body had been sent when the answer came. */
  wasComplete: boolean;
}

export type Verdict = 'arrived' | 'redirect' | 'expectation failed' | DiskliftError;

/** May pass: another attempt is worth it (RFC 9110 and, for 425 and 429, RFC 8470 and RFC 6585). */
const RETRYABLE_STATUS: ReadonlySet<number> = new Set([408, 425, 429]);

const MEANINGS: Readonly<Record<number, string>> = {
  401: 'the credentials are missing or wrong',
  403: 'the credentials do not allow it, or have expired',
  407: 'the credentials for the proxy are missing or wrong',
  409: 'there is a conflict with what is there',
  411: 'the server wants a length, which a proxy may have removed',
  412: 'there is something at that place already',
  413: 'the image is too large for the server',
  507: 'the server has no space left',
};

interface Asked {
  /** The URL as it may be shown. */
  where: string;
  /** A text that repeats one of them is not shown. */
  secrets: readonly string[];
  nowMs: number;
}

export function judgeAnswer({ status, headers, text, wasComplete }: Answer, { where, secrets, nowMs }: Asked): Verdict {
  if (status === 417) return 'expectation failed';
  if (status === 307 || status === 308) return 'redirect';
  if (status >= 200 && status < 300) {
    if (!wasComplete)
      return failure('DestinationRejected', `${where}: answered ${status} before it had the whole image`, { retryable: true });
    // The server has only promised to look at it later (RFC 9110, section 15.3.3).
    return status === 202 ? failure('DestinationRejected', `${where}: answered 202: accepted, but not stored yet`) : 'arrived';
  }
  const meaning = MEANINGS[status];
  const message = `${where}: answered ${status}${meaning === undefined ? '' : `: ${meaning}`}${serverMessage(text, secrets)}`;
  if (status === 401 || status === 403 || status === 407) return failure('CredentialsInvalid', message);
  const retryable = status >= 500 || RETRYABLE_STATUS.has(status);
  return failure('DestinationRejected', message, { retryable, retryAfterMs: parseRetryAfter(headers['retry-after'], nowMs) });
}

function failure(code: ErrorCode, message: string, facts?: { retryable?: boolean; retryAfterMs?: number | undefined }): DiskliftError {
  return new DiskliftError(code, message, undefined, facts);
}
