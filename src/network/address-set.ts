/** Addresses and networks, to be looked up by an address. */

import { BlockList, isIP } from 'node:net';

export interface AddressSet {
  /** @param text an address, or a CIDR @returns false for anything else */
  add(text: string): boolean;
  /** @returns false also for what is no address */
  has(address: string): boolean;
}

export function createAddressSet(): AddressSet {
  const networks = new BlockList();
  return {
    add(text) {
      const [network, prefix, ...rest] = text.split('/') as [string, ...string[]];
      const version = isIP(network);
      if (version === 0 || rest.length > 0 || !isPrefix(prefix, version)) return false;
      networks.addSubnet(network, prefixBits(prefix, version), family(version));
      return true;
    },
    has: (address) => isIP(address) !== 0 && networks.check(address, family(isIP(address))),
  };
}

function family(version: number): 'ipv4' | 'ipv6' {
  return version === 4 ? 'ipv4' : 'ipv6';
}

function prefixBits(prefix: string | undefined, version: number): number {
  return prefix === undefined ? (version === 4 ? 32 : 128) : Number(prefix);
}

function isPrefix(prefix: string | undefined, version: number): boolean {
  return prefix === undefined || (/^\d{1,3}$/.test(prefix) && Number(prefix) <= prefixBits(undefined, version));
}
