/**
 * Hosts and addresses as they are compared: bare names, sets of networks, and IPv4 addresses inside IPv6 addresses.
 * Pure.
 */

import { BlockList, isIP, SocketAddress } from 'node:net';
import { unbracketed } from '../common/http-url.ts';

/** Without the brackets of an IPv6 address, its zone, and the dot that ends a fully qualified name; in lower case. */
export function bareHost(host: string): string {
  return unbracketed(host).replace(/%.*$/, '').replace(/\.$/, '').toLowerCase();
}

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

interface Embedding {
  /** The groups of 16 bits that the address begins with. */
  prefix: readonly number[];
  /** The first of the two groups that hold the IPv4 address. */
  at: number;
}

const EMBEDDINGS: readonly Embedding[] = [
  // IPv4-compatible (RFC 4291, section 2.5.5.1; deprecated) and IPv4-mapped (2.5.5.2)
  { prefix: [0, 0, 0, 0, 0, 0], at: 6 },
  { prefix: [0, 0, 0, 0, 0, 0xffff], at: 6 },
  // IPv4-translated (RFC 2765)
  { prefix: [0, 0, 0, 0, 0xffff, 0], at: 6 },
  // NAT64: the well-known prefix (RFC 6052) and the local one (RFC 8215)
  { prefix: [0x64, 0xff9b, 0, 0, 0, 0], at: 6 },
  { prefix: [0x64, 0xff9b, 1], at: 6 },
  // 6to4 (RFC 3056)
  { prefix: [0x2002], at: 1 },
];

/** @param address an IPv4 or IPv6 address; of IPv4 there is nothing embedded */
export function embeddedIpv4(address: string): string[] {
  if (!address.includes(':')) return [];
  const groups = groupsOf(address);
  return EMBEDDINGS.filter(({ prefix }) => prefix.every((group, index) => groups[index] === group)).map(({ at }) =>
    [groups[at], groups[at + 1]].flatMap((group = 0) => [group >> 8, group & 0xff]).join('.'),
  );
}

/** The eight groups of an IPv6 address. */
function groupsOf(address: string): number[] {
  // Node writes any notation in one: lower case, the longest run of zeros as ::, the last 32 bits maybe as IPv4.
  const canonical = new SocketAddress({ address, family: 'ipv6' }).address;
  const hex = canonical.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_, ...bytes: string[]) => {
    const [a, b, c, d] = bytes.map(Number) as [number, number, number, number];
    return `${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
  });
  const [head = '', tail] = hex.split('::');
  const left = parseGroups(head);
  if (tail === undefined) return left;
  const right = parseGroups(tail);
  return [...left, ...new Array<number>(8 - left.length - right.length).fill(0), ...right];
}

function parseGroups(text: string): number[] {
  return text === '' ? [] : text.split(':').map((group) => Number.parseInt(group, 16));
}
