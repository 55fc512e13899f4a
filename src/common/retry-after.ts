/** Retry-After (RFC 9110, section 10.2.3): seconds, or a date. */

/** Nobody waits longer because a peer says so. */
const LONGEST_WAIT_MS = 24 * 3_600_000;

/** @returns milliseconds from `nowMs` on, 0 for a date that has passed, or undefined for anything else */
export function parseRetryAfter(value: string | undefined, nowMs: number): number | undefined {
  if (value === undefined) return undefined;
  const text = value.trim();
  if (/^\d{1,9}$/.test(text)) return Math.min(Number(text) * 1000, LONGEST_WAIT_MS);
  // Date.parse takes nearly anything; a date of HTTP begins with the name of a day.
  const dateMs = /^[A-Z][a-z]{2,8}, ?/.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(dateMs) ? undefined : Math.min(Math.max(0, dateMs - nowMs), LONGEST_WAIT_MS);
}
