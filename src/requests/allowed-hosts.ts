/** The annotation by which the owner of a Secret says who may be shown it. */

/** Where a connection goes to, as the request names it. */
export interface Endpoint {
  /** A name or an address; IPv6 with or without brackets. */
  hostname: string;
  port: number;
}

/** @param url of http or https */
export function endpointOf({ hostname, port, protocol }: URL): Endpoint {
  return { hostname, port: Number(port) || (protocol === 'https:' ? 443 : 80) };
}

function normalized(hostname: string): string {
  return hostname
    .toLowerCase()
    .replace(/^\[(.*)\]$/, '$1')
    .replace(/\.$/, '');
}

/**
 * @param list names, addresses and patterns (`*.example` is whatever ends in `.example`), separated by commas, each with a port
 * where it shall hold for that port only
 * @returns whether `endpoint` is one of them; what cannot be understood allows nothing
 */
export function isAllowedHost(list: string, { hostname, port }: Endpoint): boolean {
  const name = normalized(hostname);
  return list.split(',').some((entry) => {
    const { host, ipv6, only } = /^(?:\[(?<ipv6>[^\]]+)\]|(?<host>[^:[\]]+))(?::(?<only>\d+))?$/.exec(entry.trim())?.groups ?? {};
    const pattern = ipv6 ?? host;
    if (pattern === undefined || (only !== undefined && Number(only) !== port)) return false;
    return pattern.startsWith('*.')
      ? name.endsWith(normalized(pattern.slice(1))) && name.length >= pattern.length
      : name === normalized(pattern);
  });
}
