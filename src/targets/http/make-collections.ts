/** Makes the collections (folders) above a URL, as WebDAV clients do (RFC 4918, section 9.3). */

import type { Origin } from './origin.ts';
import { type Query, sendQuery } from './send-query.ts';

/** The resource exists already. Servers without WebDAV answer 405 as well, and make folders by themselves. */
const EXISTS = 405;

/** The collection's own parent is missing: 409 by the specification; Go's webdav answers 404. */
const NO_PARENT: ReadonlySet<number> = new Set([404, 409]);

/**
 * Requests the lowest collection first, so that one request is enough where it exists.
 * @returns undefined, or the refusal of a collection; the upload itself then shows whether it matters
 * @throws DiskliftError `DestinationUnreachable`, `Cancelled`; and as openConnection
 */
export async function createCollections(query: Omit<Query, 'method'>): Promise<string | undefined> {
  const collections = collectionsOf(query.origin.url);
  const make = async (url: URL) => (await sendQuery({ ...query, origin: withUrl(query.origin, url), method: 'MKCOL' })).status;
  let lowest = 0;
  let refused: number | undefined;
  for (; lowest < collections.length; lowest += 1) {
    const status = await make(collections[lowest] as URL);
    if (isMade(status)) break;
    if (!NO_PARENT.has(status)) return refusal(withUrl(query.origin, collections[lowest] as URL), status);
    refused = status;
  }
  if (lowest === collections.length && refused !== undefined) return refusal(withUrl(query.origin, collections.at(-1) as URL), refused);
  for (const url of collections.slice(0, lowest).reverse()) {
    const status = await make(url);
    if (!isMade(status)) return refusal(withUrl(query.origin, url), status);
  }
  return undefined;
}

/** The collections from the lowest to the highest, without the root, which always exists. */
function collectionsOf(url: URL): URL[] {
  const parts = url.pathname.split('/').slice(1, -1);
  return parts.map((_, index) => {
    const collection = new URL(url);
    collection.pathname = `/${parts.slice(0, parts.length - index).join('/')}/`;
    return collection;
  });
}

/** Some servers answer with a redirect for a collection that exists. */
function isMade(status: number): boolean {
  return (status >= 200 && status < 400 && status !== 207) || status === EXISTS;
}

function withUrl(origin: Origin, url: URL): Origin {
  return { ...origin, url };
}

function refusal({ url, secretName }: Origin, status: number): string {
  return `MKCOL ${secretName === undefined ? url.pathname : 'in its path'} was answered ${status}`;
}
