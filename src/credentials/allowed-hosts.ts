/** The annotation by which the owner of a Secret says who may be shown it. */

import { unbracketed } from '../common/unbracketed.ts';

/** Where a connection goes to, as the request names it. */
export interface Endpoint {
  /** A name or an address; IPv6 with or without brackets. */
  hostname: string;
  port: number;
  /** Whether the connection is encrypted (TLS). */
  isEncrypted: boolean;
}

/** @param url of http or https */
export function endpointOf({ hostname, port, protocol }: URL): Endpoint {
  const isEncrypted = protocol === 'https:';
  return { hostname, port: Number(port) || (isEncrypted ? 443 : 80), isEncrypted };
}

function normalized(hostname: string): string {
  return unbracketed(hostname.toLowerCase()).replace(/\.$/, '');
}

const ENTRY = /^(?:(?<scheme>https?):\/\/)?(?:\[(?<ipv6>[^\]]+)\]|(?<host>[^:/[\]]+))(?::(?<only>\d+))?$/;

/**
 * @param list entries separated by commas: a name, an address, or `*.example` for each name beneath `example`. A port behind it limits
 * the entry to that port. `http://` in front of it allows connections without encryption; without a scheme, or with `https://`, only TLS
 * is allowed.
 * @returns whether an entry allows `endpoint`; an entry that cannot be understood allows nothing
 */
export function isAllowedHost(list: string, { hostname, port, isEncrypted }: Endpoint): boolean {
  const name = normalized(hostname);
  return list.split(',').some((entry) => {
    const { scheme = 'https', host, ipv6, only } = ENTRY.exec(entry.trim())?.groups ?? {};
    const pattern = ipv6 ?? host;
    if (pattern === undefined || (only !== undefined && Number(only) !== port)) return false;
    if (isEncrypted !== (scheme === 'https')) return false;
    return pattern.startsWith('*.')
      ? name.endsWith(normalized(pattern.slice(1))) && name.length >= pattern.length
      : name === normalized(pattern);
  });
}
