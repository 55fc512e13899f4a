/**
 * Agents for node:http and node:https whose connections keep to the destination policy, for clients that bring their
 * own requests.
 */

import type http from 'node:http';
import type https from 'node:https';
import type { Socket } from 'node:net';
import { cancelledError } from '../common/abortable.ts';
import { nodeHttp, nodeHttps } from '../common/builtin.ts';
import { DiskliftError } from '../common/errors.ts';
import { basicCredentials } from '../common/http-url.ts';
import { limitInterimAnswers } from './answer-limits.ts';
import type { NetworkAccess } from './destination-policy.ts';
import type { TlsMaterial } from './guarded-connection.ts';
import { openConnection, type ProxySettings, proxyFor } from './open-connection.ts';

export interface GuardedAgentOptions extends Pick<http.AgentOptions, 'keepAlive' | 'keepAliveMsecs' | 'maxFreeSockets'> {
  access: NetworkAccess;
  /** For all connections of `httpsAgent`: a name of the server in it holds whatever the host. */
  tls?: TlsMaterial | undefined;
  proxy?: ProxySettings | undefined;
  /** Called for each connection whose server's words must not be shown. */
  onUnquotable?: (() => void) | undefined;
}

export interface GuardedAgents {
  httpAgent: http.Agent;
  httpsAgent: https.Agent;
}

/**
 * Sets no limit on the number of connections: with one, Node's agent forgets waiting requests when a connection cannot
 * be made. `destroy` ends connections that are being made as well.
 * @returns agents through which requests fail with `DestinationNotAllowed`, emitted as it is, where the policy says so
 */
export function createGuardedAgents({ access, tls = {}, proxy = {}, onUnquotable, ...options }: GuardedAgentOptions): GuardedAgents {
  const way = { access, tls, proxy, onUnquotable };
  const { Agent } = nodeHttp();
  const { Agent: SecureAgent } = nodeHttps();
  return {
    httpAgent: guard(new Agent(options), { ...way, protocol: 'http:' }),
    httpsAgent: guard(new SecureAgent(options), { ...way, protocol: 'https:' }),
  };
}

interface Way extends Required<Pick<GuardedAgentOptions, 'access'>> {
  protocol: 'http:' | 'https:';
  tls: TlsMaterial;
  proxy: ProxySettings;
  onUnquotable: (() => void) | undefined;
}

/** A method of Node's agents that its types omit. Called before the head of `request` is written. */
interface RequestTaker {
  addRequest(request: http.ClientRequest, options: { host?: string; port?: number | string }): void;
}

function guard<T extends http.Agent>(agent: T, { protocol, onUnquotable, ...way }: Way): T {
  const destroyed = new AbortController();
  const { signal } = destroyed;
  const destroy = agent.destroy.bind(agent);
  agent.createConnection = ({ host, port }, callback) => {
    openConnection({ ...way, url: urlOf(protocol, host, port), signal }).then(
      ({ socket, mayQuote }) => {
        if (!mayQuote) onUnquotable?.();
        // A destroyed agent would never destroy this socket.
        if (signal.aborted) socket.destroy();
        callback?.(signal.aborted ? cancelledError(signal) : null, socket);
      },
      (error: Error) => callback?.(error, undefined as unknown as Socket),
    );
    return undefined;
  };
  const taker = agent as unknown as RequestTaker;
  const addRequest = taker.addRequest.bind(taker);
  taker.addRequest = (request, options) => {
    const url = urlOf(protocol, options.host, options.port);
    limitInterimAnswers(request, url.host);
    if (protocol === 'http:') addressToProxy(request, url, way.proxy);
    addRequest(request, options);
  };
  agent.destroy = () => {
    destroyed.abort(new DiskliftError('Cancelled', 'the agent was destroyed'));
    destroy();
  };
  return agent;
}

function urlOf(protocol: string, host: string | null | undefined, port: number | string | null | undefined): URL {
  return new URL(`${protocol}//${host?.includes(':') ? `[${host}]` : host}:${port}`);
}

/** A proxy for http takes requests that name the whole URL (RFC 9112, section 3.2.2). */
function addressToProxy(request: http.ClientRequest, url: URL, settings: ProxySettings): void {
  let proxy: URL | undefined;
  try {
    proxy = proxyFor(url, settings);
  } catch {
    // An invalid proxy URL fails when the connection is opened, directly after this.
  }
  if (proxy === undefined) return;
  request.path = `${url.origin}${request.path}`;
  const credentials = basicCredentials(proxy);
  if (credentials !== undefined) request.setHeader('Proxy-Authorization', credentials);
}
