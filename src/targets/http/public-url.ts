/** A URL as it may be shown. */

/** Without user, password, query and fragment: a presigned URL carries its secret in the query. */
export function publicUrl(url: URL): string {
  return `${url.origin}${url.pathname}`;
}
