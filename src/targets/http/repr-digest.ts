/** Repr-Digest (RFC 9530): the server's own digest of what it has. */

/** @returns the SHA-256 in hex, or undefined where the header has none */
export function sha256OfReprDigest(header: string | undefined): string | undefined {
  const value = header?.match(/(?:^|,)\s*sha-256=:([A-Za-z0-9+/]{43}=):/)?.[1];
  return value === undefined ? undefined : Buffer.from(value, 'base64').toString('hex');
}
