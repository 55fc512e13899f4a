/** @returns the host of a URL without the brackets that an IPv6 address has there */
export function unbracketed(host: string): string {
  return host.replace(/^\[(.*)\]$/, '$1');
}
