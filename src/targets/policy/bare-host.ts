/** A host as it is compared. */

/** Without the brackets of an IPv6 address, its zone, and the dot that ends a fully qualified name; in lower case. */
export function bareHost(host: string): string {
  return host
    .replace(/^\[(.*)\]$/, '$1')
    .replace(/%.*$/, '')
    .replace(/\.$/, '')
    .toLowerCase();
}
