/** What must not be shown, should a server repeat it. */

import { basicCredentials, userOf } from '../policy/basic-credentials.ts';
import type { Origin } from './redirect.ts';

/** Shorter ones are words of any text, and no secrets. */
const SHORTEST_CHARACTERS = 3;

/** @returns the words of the headers' values and of the URL's user and query, as they are written and as they are meant */
export function secretsOf({ url, headers }: Pick<Origin, 'url' | 'headers'>): string[] {
  const { username, password, search, searchParams } = url;
  const written = [username, password, basicCredentials(url) ?? '', ...Object.values(headers), ...search.split(/[?&=]/)];
  const meant = [...Object.values(userOf(url)), ...searchParams.values()];
  const words = [...written, ...meant].flatMap((text) => text.split(/\s+/));
  return [...new Set(words)].filter((word) => word.length >= SHORTEST_CHARACTERS);
}
