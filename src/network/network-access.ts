/** The destination policy, put where connections are made: each target connects through it. */

import dns from 'node:dns';
import type { LookupFunction, Socket } from 'node:net';
import type { DestinationPolicy } from './destination-policy.ts';

export interface NetworkAccess {
  /** To be called before a connection: a host that is an address is never looked up. @throws DiskliftError `DestinationNotAllowed` */
  checkHost(host: string): void;
  /** For the `lookup` option of net, tls, http and https: fails with `DestinationNotAllowed` where an address is not allowed. */
  lookup: LookupFunction;
  /** To be called once `socket` is connected, before anything is written to it. @throws DiskliftError `DestinationNotAllowed` */
  checkSocket(socket: Socket, host: string): void;
  /** Whether what the server at `address` says may be shown, as {@link DestinationPolicy} has it. */
  mayQuote(address: string, host: string): boolean;
}

/**
 * @param policy anything is allowed where it is left out: somebody's own program, run with that person's rights
 * @param resolve the system's resolver, unless told otherwise
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
      // Absent for a socket that is closed already: then nothing can be written to it either.
      if (socket.remoteAddress !== undefined) policy?.checkAddress(socket.remoteAddress, host);
    },
    mayQuote: (address, host) => policy?.mayQuote(address, host) ?? true,
  };
}
