/** A URL as it may be shown. */

import type { Origin } from './origin.ts';

type Place = Pick<Origin, 'url' | 'secretName' | 'hasUnshownPath'>;

/**
 * Without user, password, query and fragment: a presigned URL carries its secret in the query. Of a URL that a Secret holds only the
 * host is shown, because a webhook or an upload link carries its secret in the path.
 */
export function publicUrl({ url, secretName, hasUnshownPath }: Place): string {
  if (secretName !== undefined) return `the URL in Secret ${secretName} (${url.origin})`;
  return hasUnshownPath ? url.origin : `${url.origin}${url.pathname}`;
}

/** The folder of the URL's path, in the same sense. */
export function publicFolder(origin: Place): string {
  if (origin.secretName !== undefined || origin.hasUnshownPath) return 'in its path';
  const shown = publicUrl(origin);
  return shown.slice(0, shown.lastIndexOf('/') + 1);
}
