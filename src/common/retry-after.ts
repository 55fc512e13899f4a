/** Retry-After (RFC 9110, section 10.2.3): seconds, or a date. */

/** Limit of a wait that a peer asks for: a server that is busy for longer is asked again meanwhile. */
export const MAX_RETRY_AFTER_MS = 15 * 60_000;

/** @returns milliseconds from `nowMs` on, 0 for a date that has passed, or undefined for anything else */
export function parseRetryAfter(value: string | undefined, nowMs: number): number | undefined {
  if (value === undefined) return undefined;
  const text = value.trim();
  if (/^\d+$/.test(text)) return Math.min(Number(text) * 1000, MAX_RETRY_AFTER_MS);
  // Date.parse takes nearly anything; a date of HTTP begins with the name of a day.
  const dateMs = /^[A-Z][a-z]{2,8}, ?/.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(dateMs) ? undefined : Math.min(Math.max(0, dateMs - nowMs), MAX_RETRY_AFTER_MS);
}
