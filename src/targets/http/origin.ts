/** Where an upload goes: what may be shown of it, what must not be shown, and where an answer's Location leads. */

import { DiskliftError } from '../../common/errors.ts';
import { basicCredentials, userOf } from '../../common/http-url.ts';
import type { NetworkAccess } from '../../network/destination-policy.ts';
import type { TlsMaterial } from '../../network/guarded-connection.ts';
import { serverMessage } from '../../network/server-message.ts';
import type { Answer } from './answer.ts';

/** URL, headers and TLS material of a request. Everything in `headers` and `tls` may be secret. */
export interface Origin {
  url: URL;
  /** Name of the Secret that holds the URL. Only the host may then be shown, also of a redirect's target. */
  secretName?: string | undefined;
  /** Whether a server of another origin redirected here. The text of this server is then not shown. */
  isElsewhere?: boolean | undefined;
  /** Whether a server whose text is not shown chose the path. */
  hasUnshownPath?: boolean | undefined;
  /** The caller's headers. */
  headers: Readonly<Record<string, string>>;
  tls: TlsMaterial;
}

type Place = Pick<Origin, 'url' | 'secretName' | 'hasUnshownPath'>;

/**
 * A URL as it may be shown: without user, password, query and fragment, because a presigned URL carries its secret in
 * the query. A URL that a Secret holds is reduced to its host, because a webhook or an upload link carries its secret
 * in the path.
 */
export function publicUrl({ url, secretName, hasUnshownPath }: Place): string {
  if (secretName !== undefined) return `the URL in Secret ${secretName} (${url.origin})`;
  return hasUnshownPath ? url.origin : `${url.origin}${url.pathname}`;
}

/** The folder of the URL's path as it may be shown. */
export function publicFolder(origin: Place): string {
  if (origin.secretName !== undefined || origin.hasUnshownPath) return 'in its path';
  const shown = publicUrl(origin);
  return shown.slice(0, shown.lastIndexOf('/') + 1);
}

/**
 * @returns the words of the headers' values and of the URL's user and query, encoded and decoded; also the parts of the
 * path where a Secret holds the URL
 */
export function secretsOf({ url, headers, secretName }: Pick<Origin, 'url' | 'headers' | 'secretName'>): string[] {
  const { username, password, pathname, search, searchParams } = url;
  const written = [username, password, basicCredentials(url) ?? '', ...Object.values(headers), ...search.split(/[?&=]/)];
  if (secretName !== undefined) written.push(...pathname.split('/'));
  const meant = [...Object.values(userOf(url)), ...searchParams.values()];
  const words = [...written, ...meant].flatMap((text) => text.split(/\s+/));
  return [...new Set(words)];
}

/**
 * Follows a redirect (307 and 308, which keep method and body). Another origin receives none of the first origin's
 * credentials: no header, no user of the URL, no client certificate.
 * @throws DiskliftError `DestinationRejected` for a Location that is not valid, or that is less protected
 */
export function followRedirect(from: Origin, { headers: { location }, mayQuote }: Pick<Answer, 'headers' | 'mayQuote'>): Origin {
  const where = publicUrl(from);
  if (location === undefined || !URL.canParse(location, from.url.href))
    throw new DiskliftError('DestinationRejected', `${where}: redirects without a valid Location`);
  if (/[\\\p{Cc}\s]/u.test(location))
    throw new DiskliftError(
      'DestinationRejected',
      `${where}: redirects to a URL with a backslash, a space or a control character, which programs read in two ways`,
    );
  const url = new URL(location, from.url);
  if (url.protocol !== 'https:' && url.protocol !== 'http:')
    throw new DiskliftError('DestinationRejected', `${where}: redirects to ${url.protocol}`);
  if (from.url.protocol === 'https:' && url.protocol === 'http:')
    throw new DiskliftError(
      'DestinationRejected',
      `${where}: redirects from https to http, ${publicUrl({ ...from, url, hasUnshownPath: !mayQuote })}`,
    );
  if (url.origin === from.url.origin) {
    if (url.username === '') [url.username, url.password] = [from.url.username, from.url.password];
    return { ...from, url, hasUnshownPath: !mayQuote };
  }
  const { ca } = from.tls;
  return { url, secretName: from.secretName, isElsewhere: true, hasUnshownPath: !mayQuote, headers: {}, tls: { ca } };
}

/** A longer Location is ignored. */
const MAX_LOCATION_CHARACTERS = 4096;

/**
 * A 201 names the created resource in Location, which may differ from the request's URL (RFC 9110, section 15.3.2). A
 * Location to which an upload could not be redirected is ignored: it is less protected, or the policy denies it.
 * @returns the URL in a form that may be shown
 */
export function storedAt(
  { status, headers, mayQuote }: Pick<Answer, 'status' | 'headers' | 'mayQuote'>,
  origin: Origin,
  access: NetworkAccess,
): string {
  const asked = publicUrl(origin);
  // The server derives Location from the URL that it was sent.
  if (origin.secretName !== undefined || !mayQuote) return asked;
  const { location } = headers;
  if (status !== 201 || location === undefined || location.length > MAX_LOCATION_CHARACTERS) return asked;
  // Parsers read such a URL in different ways.
  if (/[\\\p{Cc}\s]/u.test(location)) return asked;
  const url = URL.canParse(location, origin.url.href) ? new URL(location, origin.url) : undefined;
  if (url === undefined || !['http:', 'https:'].includes(url.protocol)) return asked;
  // The same resource: a server behind a proxy cannot see the name, scheme and port of the client's URL.
  if (url.pathname === origin.url.pathname) return asked;
  if (origin.url.protocol === 'https:' && url.protocol === 'http:') {
    if (url.hostname !== origin.url.hostname) return asked;
    url.protocol = 'https:';
    url.port = origin.url.port;
  }
  try {
    access.checkHost(url.hostname);
  } catch {
    return asked;
  }
  const place = publicUrl({ url });
  const secrets = secretsOf(origin).filter((secret) => !asked.includes(secret));
  // `serverMessage` returns an empty text where the URL repeats a secret of the request.
  return serverMessage(place, secrets) === '' ? asked : place;
}
