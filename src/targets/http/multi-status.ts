/** Finds a failure inside an answer whose own status is a success. */

import type { Answer } from './answer.ts';

/** Status of one resource in a 207 (RFC 4918, section 13). */
const STATUS_LINE = /HTTP\/[0-9.]+\s+([1-5]\d\d)/g;

/** Object stores that send the status before the end of their work report a later failure in the text. */
const ERROR_DOCUMENT = /^\s*(?:<\?xml[^>]*>\s*)?<Error[\s>]/;

/**
 * @returns the status of the first failure; 0 for a failure, or a possible one, without a status; undefined for a success. A 207 must
 * name at least one success and be complete, because a missing part may name the failure.
 */
export function failedPart({ status, text, isTextWhole }: Pick<Answer, 'status' | 'text' | 'isTextWhole'>): number | undefined {
  if (ERROR_DOCUMENT.test(text)) return 0;
  if (status !== 207) return undefined;
  const inner = [...text.matchAll(STATUS_LINE)].map((match) => Number(match[1]));
  const failed = inner.find((each) => each >= 300);
  return failed ?? (isTextWhole && inner.length > 0 ? undefined : 0);
}
