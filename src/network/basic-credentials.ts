/** The user and the password of a URL, and the header that carries them. */

/** @returns both without percent-encoding. Secret. */
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
