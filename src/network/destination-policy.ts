/**
 * Destinations that images may go to, and the access to the network that enforces it. The author of a request chooses
 * the destination, and the sidecar runs inside the cluster's network. Without a policy a request could reach the node
 * of the sidecar or the cloud's metadata service.
 */

import dns from 'node:dns';
import { isIP, type LookupFunction, type Socket } from 'node:net';
import { DiskliftError } from '../common/errors.ts';
import { bareHost, createAddressSet, embeddedIpv4 } from './addresses.ts';
import { API_SERVER, type ClusterPlaces, type Denial, denialsOf, doubtfulNetworks } from './cluster-places.ts';

export interface DestinationRules {
  /**
   * Host names (`backup.example`, `*.example` for all names beneath), addresses and CIDRs that are exempt from the
   * default denials.
   */
  allow: readonly string[];
  /** Entries of the same form that are always denied. `deny` wins over `allow`. */
  deny: readonly string[];
  /** Left out: nothing inside a cluster is denied. */
  cluster?: ClusterPlaces | undefined;
}

export interface DestinationPolicy {
  /** @param host a name or an address, as `URL.hostname` has it @throws DiskliftError `DestinationNotAllowed` */
  checkHost(host: string): void;
  /**
   * @param host the name that led to `address`: an allowed name may have any address that is not denied
   * @throws DiskliftError `DestinationNotAllowed`
   */
  checkAddress(address: string, host: string): void;
  /**
   * Whether the text of a server at `address` may be shown to the author of a request. False where the server may be in
   * the cluster and the operator does not allow requests to reach it: its text could reveal something about the
   * cluster.
   */
  mayQuote(address: string, host: string): boolean;
  /** Adds hosts of the API server, which the process discovers while it runs, to the default denials. */
  addApiServers(hosts: readonly string[]): void;
}

/** This host, this network and multicast; link-local, which has the metadata services of most clouds. */
const DENIED_BY_DEFAULT: readonly string[] = [
  '0.0.0.0/8',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '224.0.0.0/4',
  '255.255.255.255',
  '::',
  '::1',
  'fe80::/10',
  'ff00::/8',
  'localhost',
  '*.localhost',
  // Metadata services that are not link-local: AWS by IPv6, Alibaba Cloud, Azure, Oracle Cloud, and Google's name.
  'fd00:ec2::254',
  '100.100.100.200',
  '168.63.129.16',
  '192.0.0.192',
  'metadata.google.internal',
];

/** @throws DiskliftError `InvalidRequest` for an entry that is no name, address or CIDR */
export function createDestinationPolicy({ allow, deny, cluster }: DestinationRules): DestinationPolicy {
  const [denied, allowed] = [deny, allow].map(createMatcher) as [Matcher, Matcher];
  const byDefault = [{ entries: DENIED_BY_DEFAULT }, ...(cluster === undefined ? [] : denialsOf(cluster))].map(createDenialMatcher);

  const doubtful = createMatcher(cluster === undefined ? [] : doubtfulNetworks(cluster));

  function refuse(what: string, reason?: string): never {
    throw new DiskliftError(
      'DestinationNotAllowed',
      `${what}: the destination policy does not allow it${reason === undefined ? '' : `: ${reason}`}`,
    );
  }

  function checkAddress(address: string, host: string): void {
    const notations = [address, ...embeddedIpv4(address)];
    const what = address === host ? address : `${host} (${address})`;
    if (notations.some(denied.hasAddress)) refuse(what);
    if (allowed.hasName(host) || notations.some(allowed.hasAddress)) return;
    for (const { reason, hasAddress } of byDefault) if (notations.some(hasAddress)) refuse(what, reason);
  }

  return {
    checkHost(host) {
      const name = bareHost(host);
      if (isIP(name) !== 0) return checkAddress(name, name);
      if (denied.hasName(name)) refuse(name);
      if (allowed.hasName(name)) return;
      for (const { reason, hasName } of byDefault) if (hasName(name)) refuse(name, reason);
    },
    checkAddress: (address, host) => checkAddress(bareHost(address), bareHost(host)),
    mayQuote(address, host) {
      const notations = [bareHost(address), ...embeddedIpv4(bareHost(address))];
      return allowed.hasName(bareHost(host)) || notations.some(allowed.hasAddress) || !notations.some(doubtful.hasAddress);
    },
    addApiServers(hosts) {
      byDefault.unshift(createDenialMatcher({ reason: API_SERVER, entries: hosts }));
    },
  };
}

interface Matcher {
  hasName(name: string): boolean;
  hasAddress(address: string): boolean;
}

interface DenialMatcher extends Matcher {
  reason: string | undefined;
}

function createDenialMatcher({ reason, entries }: Partial<Denial> & Pick<Denial, 'entries'>): DenialMatcher {
  return { reason, ...createMatcher(entries) };
}

const HOST_NAME = /^(\*\.)?[a-z0-9_]([-a-z0-9_]*[a-z0-9_])?(\.[a-z0-9_]([-a-z0-9_]*[a-z0-9_])?)*$/;

function createMatcher(entries: readonly string[]): Matcher {
  const addresses = createAddressSet();
  const names = new Set<string>();
  for (const entry of entries) {
    const text = bareHost(entry);
    if (addresses.add(text)) continue;
    if (!HOST_NAME.test(text) || looksNumeric(text))
      throw new DiskliftError('InvalidRequest', `destination policy: ${JSON.stringify(entry)} is not a host name, address or CIDR`);
    names.add(text);
  }
  return {
    hasName(name) {
      if (names.has(name)) return true;
      for (let dot = name.indexOf('.'); dot >= 0; dot = name.indexOf('.', dot + 1)) if (names.has(`*${name.slice(dot)}`)) return true;
      return false;
    },
    hasAddress: addresses.has,
  };
}

/** 10.0.0.256 and 127.1 are mistyped addresses, and would never match as names. */
function looksNumeric(text: string): boolean {
  return /^[\d.]+$/.test(text) || /(^|\.)0x[\da-f]*$/.test(text);
}

export interface NetworkAccess {
  /**
   * Call this before a connection, because a host that is an address is never looked up.
   * @throws DiskliftError `DestinationNotAllowed`
   */
  checkHost(host: string): void;
  /**
   * For the `lookup` option of net, tls, http and https: fails with `DestinationNotAllowed` where an address is not
   * allowed.
   */
  lookup: LookupFunction;
  /**
   * Call this when `socket` is connected, before anything is written to it.
   * @throws DiskliftError `DestinationNotAllowed`
   */
  checkSocket(socket: Socket, host: string): void;
  /** Whether the text of the server at `address` may be shown; see {@link DestinationPolicy}. */
  mayQuote(address: string, host: string): boolean;
}

/**
 * @param policy everything is allowed without a policy: a command that a user runs with the user's own rights
 * @param resolve default: the system's resolver
 */
export function createNetworkAccess(policy?: DestinationPolicy, resolve: LookupFunction = dns.lookup): NetworkAccess {
  return {
    checkHost: (host) => policy?.checkHost(host),
    lookup: (host, options, callback) => {
      resolve(host, options, (error, found, family) => {
        if (error === null) {
          try {
            for (const address of typeof found === 'string' ? [found] : found.map((each) => each.address))
              policy?.checkAddress(address, host);
          } catch (refusal) {
            return callback(refusal as Error, '');
          }
        }
        callback(error, found, family);
      });
    },
    checkSocket: (socket, host) => {
      // Absent for a socket that is closed; nothing can be written to that.
      if (socket.remoteAddress !== undefined) policy?.checkAddress(socket.remoteAddress, host);
    },
    mayQuote: (address, host) => policy?.mayQuote(address, host) ?? true,
  };
}
