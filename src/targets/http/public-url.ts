/** A URL as it may be shown. */

import type { Origin } from './origin.ts';

/**
 * Without user, password, query and fragment: a presigned URL carries its secret in the query. Of a URL that a Secret holds only the
 * host is shown, because a webhook or an upload link carries its secret in the path.
 */
export function publicUrl({ url, secretName }: Pick<Origin, 'url' | 'secretName'>): string {
  return secretName === undefined ? `${url.origin}${url.pathname}` : `the URL in Secret ${secretName} (${url.origin})`;
}

/** The folder of the URL's path, in the same sense. */
export function publicFolder(origin: Pick<Origin, 'url' | 'secretName'>): string {
  if (origin.secretName !== undefined) return 'in its path';
  const shown = publicUrl(origin);
  return shown.slice(0, shown.lastIndexOf('/') + 1);
}
