/** Agents for node:http and node:https whose connections keep to the destination policy, for clients that bring their own requests. */

import http from 'node:http';
import https from 'node:https';
import type { Socket } from 'node:net';
import { cancelledError } from '../../common/abortable.ts';
import { DiskliftError } from '../../common/errors.ts';
import type { TlsMaterial } from '../tls-material.ts';
import { connectGuarded, type Endpoint } from './guarded-connection.ts';
import type { NetworkAccess } from './network-access.ts';

export interface GuardedAgentOptions extends Pick<http.AgentOptions, 'keepAlive' | 'keepAliveMsecs' | 'maxFreeSockets'> {
  access: NetworkAccess;
  /** For all connections of `httpsAgent`: a name of the server in it holds whatever the host. */
  tls?: TlsMaterial | undefined;
}

export interface GuardedAgents {
  httpAgent: http.Agent;
  httpsAgent: https.Agent;
}

/**
 * There is no limit on the number of connections: Node's agent forgets who waits for one when another cannot be made.
 * `destroy` ends connections that are being made as well.
 * @returns agents through which requests fail with `DestinationNotAllowed`, emitted as it is, where the policy says so
 */
export function createGuardedAgents({ access, tls = {}, ...options }: GuardedAgentOptions): GuardedAgents {
  return {
    httpAgent: guard(new http.Agent(options), { access, tls: undefined }),
    httpsAgent: guard(new https.Agent(options), { access, tls }),
  };
}

function guard<T extends http.Agent>(agent: T, { access, tls }: { access: NetworkAccess; tls: Endpoint['tls'] }): T {
  const destroyed = new AbortController();
  const destroy = agent.destroy.bind(agent);
  agent.createConnection = ({ host, port }, callback) => {
    const { signal } = destroyed;
    connectGuarded({ host: host ?? 'localhost', port: Number(port), tls, access, signal }).then(
      (socket) => {
        // The agent must not take in what it would not destroy any more.
        if (signal.aborted) socket.destroy();
        callback?.(signal.aborted ? cancelledError(signal) : null, socket);
      },
      (error: Error) => callback?.(error, undefined as unknown as Socket),
    );
    return undefined;
  };
  agent.destroy = () => {
    destroyed.abort(new DiskliftError('Cancelled', 'the agent was destroyed'));
    destroy();
  };
  return agent;
}
