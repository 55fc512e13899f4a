/** A failure inside of an answer whose own status is a success. */

import type { Answer } from './answer.ts';

/** Of one resource of a 207 (RFC 4918, section 13). */
const STATUS_LINE = /HTTP\/[0-9.]+\s+([1-5]\d\d)/g;

/** Object stores that had to send a status before they knew the end say so in the text. */
const ERROR_DOCUMENT = /^\s*(?:<\?xml[^>]*>\s*)?<Error[\s>]/;

/**
 * @returns the status of the first failure, or 0 where there is one, or may be one, that has no status; undefined where all is well.
 * A 207 must name at least one success and be known whole, because the failure may stand in the part that is missing.
 */
export function failedPart({ status, text, isTextWhole }: Pick<Answer, 'status' | 'text' | 'isTextWhole'>): number | undefined {
  if (ERROR_DOCUMENT.test(text)) return 0;
  if (status !== 207) return undefined;
  const inner = [...text.matchAll(STATUS_LINE)].map((match) => Number(match[1]));
  const failed = inner.find((each) => each >= 300);
  return failed ?? (isTextWhole && inner.length > 0 ? undefined : 0);
}
