/** Finds the URL of a stored image. */

import type { NetworkAccess } from '../../network/destination-policy.ts';
import { serverMessage } from '../server-message.ts';
import type { Answer } from './answer.ts';
import type { Origin } from './origin.ts';
import { publicUrl } from './public-url.ts';
import { secretsOf } from './secrets-of.ts';

/** A longer Location is ignored. */
const MAX_LOCATION_CHARACTERS = 4096;

/**
 * A 201 names the created resource in Location, which may differ from the request's URL (RFC 9110, section 15.3.2). A Location to which
 * an upload could not be redirected is ignored: it is less protected, or the policy denies it.
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
