/** Where an image is, once a server has taken it. */

import type { NetworkAccess } from '../policy/network-access.ts';
import { serverMessage } from '../server-message.ts';
import type { Answer } from './answer.ts';
import { publicUrl } from './public-url.ts';
import type { Origin } from './redirect.ts';
import { secretsOf } from './secrets-of.ts';

/** A longer one is no place that anybody would fetch from. */
const MAX_LOCATION_CHARACTERS = 4096;

/**
 * A server that answers 201 names in Location the place it has made, which may be beside the one that was asked for (RFC 9110, section 15.3.2).
 * A place where an upload could not have been redirected to is not believed: it is less protected, or denied by the policy.
 * @returns the URL as it may be shown
 */
export function storedAt({ status, headers }: Pick<Answer, 'status' | 'headers'>, origin: Origin, access: NetworkAccess): string {
  const asked = publicUrl(origin.url);
  const { location } = headers;
  if (status !== 201 || location === undefined || location.length > MAX_LOCATION_CHARACTERS) return asked;
  // Programs read such a URL in two ways.
  if (/[\\\p{Cc}\s]/u.test(location)) return asked;
  const url = URL.canParse(location, origin.url.href) ? new URL(location, origin.url) : undefined;
  if (url === undefined || !['http:', 'https:'].includes(url.protocol)) return asked;
  // The same place: a server behind a proxy does not know by which name, scheme and port it was reached.
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
  const place = publicUrl(url);
  const secrets = secretsOf(origin).filter((secret) => !asked.includes(secret));
  // Empty where the place repeats a secret of the request.
  return serverMessage(place, secrets) === '' ? asked : place;
}
