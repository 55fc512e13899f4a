/** Times as Kubernetes writes them. */

/** RFC 3339 in whole seconds. @param timeMs since the Unix epoch */
export function timestamp(timeMs: number): string {
  return new Date(timeMs).toISOString().replace(/\.\d+Z$/, 'Z');
}
