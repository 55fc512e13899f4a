/** What must not be shown, should a server repeat it. */

import { basicCredentials, userOf } from '../../network/basic-credentials.ts';
import type { Origin } from './origin.ts';

/** Shorter ones are words of any text, and no secrets. */
const SHORTEST_CHARACTERS = 3;

/**
 * @returns the words of the headers' values and of the URL's user and query, as they are written and as they are meant; of a URL that
 * a Secret holds also the parts of its path
 */
export function secretsOf({ url, headers, secretName }: Pick<Origin, 'url' | 'headers' | 'secretName'>): string[] {
  const { username, password, pathname, search, searchParams } = url;
  const written = [username, password, basicCredentials(url) ?? '', ...Object.values(headers), ...search.split(/[?&=]/)];
  if (secretName !== undefined) written.push(...pathname.split('/'));
  const meant = [...Object.values(userOf(url)), ...searchParams.values()];
  const words = [...written, ...meant].flatMap((text) => text.split(/\s+/));
  return [...new Set(words)].filter((word) => word.length >= SHORTEST_CHARACTERS);
}
