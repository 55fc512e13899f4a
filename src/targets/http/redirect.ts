/** Where an upload goes when the server sends it elsewhere (307 and 308, which keep method and body). */

import { DiskliftError } from '../../common/errors.ts';
import type { Answer } from './answer.ts';
import type { Origin } from './origin.ts';
import { publicUrl } from './public-url.ts';

/**
 * To another origin goes nothing that the first was trusted with: no header, no user of the URL, no client certificate.
 * @throws DiskliftError `DestinationRejected` for a place that makes no sense, or that is less protected
 */
export function followRedirect(from: Origin, { headers: { location }, mayQuote }: Pick<Answer, 'headers' | 'mayQuote'>): Origin {
  const where = publicUrl(from);
  if (location === undefined || !URL.canParse(location, from.url.href))
    throw new DiskliftError('DestinationRejected', `${where}: redirects to nowhere`);
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
