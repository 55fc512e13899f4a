/** Accepts only URLs of http and https that all parsers read in the same way, and reads the user of a URL. Pure. */

/**
 * The URL, or the reason why the text is not a valid URL. The reason follows the words "the URL" and does not quote the
 * text.
 */
export type HttpUrlReading = { url: URL } | { problem: string };

const NOT_A_URL = 'is not a URL of http or https';

/**
 * Reads an absolute URL of http or https. Refuses texts that the WHATWG URL standard and RFC 3986 (as curl implements
 * it) read differently. Otherwise the checked host could differ from the connected host, and a password could become
 * part of a path.
 *
 * Exception: a backslash in the user (`DOMAIN\user`) counts as `%5C`, as curl sends it. RFC 3986, section 3.2, ends the
 * authority at the first `/`, `?` or `#` only. A backslash directly before the `@` is refused: no domain is written
 * that way, but attacks on allow lists are.
 */
export function readHttpUrl(text: string): HttpUrlReading {
  // The WHATWG parser silently drops tabs, line ends and outer spaces; RFC 3986 allows none of them.
  if (/[\p{Cc}\s]/u.test(text)) return { problem: 'holds a space or a control character; write it percent-encoded' };
  const parts = /^(?<scheme>https?:\/\/)(?<authority>[^/?#]+)(?<rest>.*)$/is.exec(text)?.groups;
  if (parts === undefined) return { problem: NOT_A_URL };
  const { scheme = '', authority = '', rest = '' } = parts;
  const at = authority.lastIndexOf('@');
  const user = authority.slice(0, at + 1);
  const hostAndPort = authority.slice(at + 1);
  if (user.indexOf('@') < at) return { problem: 'has an @ in its user or password; write it %40' };
  if (user.endsWith('\\@') || hostAndPort.includes('\\') || rest.includes('\\'))
    return { problem: 'holds a backslash, which programs read in two ways; write it %5C' };
  const [urlPath = ''] = rest.split(/[?#]/, 1);
  if (/\/(%2e|\.%2e|%2e\.|%2e%2e)(?=\/|$)/i.test(urlPath))
    return { problem: 'has a part of its path in which a dot is written %2E, which programs read in two ways' };
  const url = URL.parse(`${scheme}${user.replaceAll('\\', '%5C')}${hostAndPort}${rest}`);
  return url === null ? { problem: NOT_A_URL } : { url };
}

export function unbracketed(host: string): string {
  return host.replace(/^\[(.*)\]$/, '$1');
}

/** The user and the password of a URL. @returns both without percent-encoding. Secret. */
export function userOf({ username, password }: URL): { name: string; password: string } {
  return { name: decoded(username), password: decoded(password) };
}

/**
 * @returns the value of Authorization or Proxy-Authorization (RFC 7617), or undefined where the URL names nobody.
 * Secret.
 */
export function basicCredentials(url: URL): string | undefined {
  const { name, password } = userOf(url);
  return name === '' && password === '' ? undefined : `Basic ${Buffer.from(`${name}:${password}`).toString('base64')}`;
}

/** A URL may hold a percent sign that encodes nothing. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
