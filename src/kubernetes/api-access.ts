/** Which API server is asked, as whom and over which connections: from a kubeconfig, or from the ServiceAccount of the pod. */

import { accessSync } from 'node:fs';
import type { AgentOptions } from 'node:https';
import { type Cluster, KubeConfig, type RequestContext } from '@kubernetes/client-node';
import { DiskliftError } from '../common/errors.ts';

export interface ApiAccessOptions {
  /** A file as kubectl reads it. When left out: the pod's ServiceAccount, or else what kubectl would take. */
  kubeconfig?: string | undefined;
}

export interface ApiAccess {
  /** URL of the API server, without a slash at its end. */
  readonly server: string;
  /** That goes with the configuration, if one does. */
  readonly namespace: string | undefined;
  /** Signs a request, and has it share the connections of those before. The token of a ServiceAccount is read again every minute. */
  authenticate(request: RequestContext): Promise<void>;
  /** Requests from now on get new connections; to be called when one has not been answered. */
  reconnect(): void;
  /** Ends all connections, and what is under way on them. */
  close(): Promise<void>;
}

const SERVICE_ACCOUNT_TOKEN = '/var/run/secrets/kubernetes.io/serviceaccount/token';

/** @throws DiskliftError `InvalidRequest` when no API server is configured, or the configuration cannot be read */
export function createApiAccess({ kubeconfig }: ApiAccessOptions): ApiAccess {
  const config = loadKubeConfig(kubeconfig);
  const connections = shareConnections(config);
  return {
    server: serverOf(config, kubeconfig),
    namespace: config.getContextObject(config.getCurrentContext())?.namespace?.trim(),
    authenticate: (request) => config.applySecurityAuthentication(request),
    ...connections,
  };
}

function loadKubeConfig(kubeconfig: string | undefined): KubeConfig {
  const config = new KubeConfig();
  try {
    if (kubeconfig !== undefined) config.loadFromFile(kubeconfig);
    else if (isThere(SERVICE_ACCOUNT_TOKEN)) config.loadFromCluster();
    else config.loadFromDefault();
  } catch (error) {
    const why = (error instanceof Error ? error.message : String(error)).split('\n')[0];
    throw new DiskliftError('InvalidRequest', `${nameOf(kubeconfig)} cannot be read: ${why}`, error);
  }
  return config;
}

function nameOf(kubeconfig: string | undefined): string {
  return kubeconfig ?? 'the default kubeconfig';
}

function serverOf(config: KubeConfig, kubeconfig: string | undefined): string {
  const cluster = config.getCurrentCluster();
  if (cluster === null || !URL.canParse(cluster.server ?? ''))
    throw new DiskliftError('InvalidRequest', `${nameOf(kubeconfig)}: its current context names no API server`);
  if (new URL(cluster.server).protocol === 'https:' || cluster.skipTLSVerify) return cluster.server.replace(/\/+$/, '');
  // What client-node makes of nothing at all is http://localhost:8080.
  const isNothing = kubeconfig === undefined && cluster.server === 'http://localhost:8080';
  throw new DiskliftError(
    'InvalidRequest',
    isNothing ? 'no API server: there is neither a ServiceAccount nor a kubeconfig' : `${nameOf(kubeconfig)}: its API server has no https`,
  );
}

interface Connections {
  close(): Promise<void>;
  destroy(): Promise<void>;
}

/**
 * A connection that is being made is not ended with its dispatcher, and keeps the process for as long as it may take. (With a signal
 * for tls.connect, Node 24 fails an assertion of its own.)
 */
const CONNECT_LIMIT_MS = 4000;

/** What client-node keeps to itself; the test of this file fails where a release has it no longer. */
interface ConnectionMaker {
  createDispatcher(cluster: Cluster | null, options: AgentOptions): Connections | undefined;
}

/** client-node connects anew for each request. Here they share their connections for as long as certificates and names stay. */
function shareConnections(config: KubeConfig): Pick<ApiAccess, 'reconnect' | 'close'> {
  const maker = config as unknown as ConnectionMaker;
  const create = maker.createDispatcher.bind(config);
  const optionsOf = config.createDispatcherOptions.bind(config);
  let key = '';
  let kept: Connections | undefined;

  config.createDispatcherOptions = (cluster, options) => {
    const made = optionsOf(cluster, options);
    return made.type === 'agent' ? { ...made, connect: { ...made.connect, timeout: CONNECT_LIMIT_MS } } : made;
  };

  /** What is under way on them may end. */
  function reconnect(): void {
    kept?.close().catch(() => {});
    kept = undefined;
  }

  maker.createDispatcher = (cluster, options) => {
    // With nothing to be told to them there would be none of our own.
    const told = { rejectUnauthorized: true, ...options };
    const wanted = JSON.stringify(config.createDispatcherOptions(cluster, told));
    if (wanted !== key) reconnect();
    key = wanted;
    kept ??= create(cluster, told);
    return kept;
  };
  return {
    reconnect,
    async close() {
      await kept?.destroy();
      kept = undefined;
    },
  };
}

function isThere(path: string): boolean {
  try {
    accessSync(path);
    return true;
  } catch {
    return false;
  }
}
