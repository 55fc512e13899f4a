/** Which API server is asked, as whom and over which connections: from a kubeconfig, or from the ServiceAccount of the pod. */

import { accessSync } from 'node:fs';
import type { AgentOptions } from 'node:https';
import { type Cluster, KubeConfig } from '@kubernetes/client-node';
import { DiskliftError } from '../common/errors.ts';

export interface KubeConfigOptions {
  /** A file as kubectl reads it. When left out: the pod's ServiceAccount, or else what kubectl would take. */
  kubeconfig?: string | undefined;
}

const SERVICE_ACCOUNT_TOKEN = '/var/run/secrets/kubernetes.io/serviceaccount/token';

/**
 * The token of a ServiceAccount is read again every minute, because it is replaced within the hour. The namespace that goes with
 * the configuration is that of its current context.
 * @throws DiskliftError `InvalidRequest` when no API server is configured, or the configuration cannot be read
 */
export function loadKubeConfig({ kubeconfig }: KubeConfigOptions): KubeConfig {
  const config = new KubeConfig();
  try {
    if (kubeconfig !== undefined) config.loadFromFile(kubeconfig);
    else if (isThere(SERVICE_ACCOUNT_TOKEN)) config.loadFromCluster();
    else config.loadFromDefault();
  } catch (error) {
    const what = kubeconfig ?? 'the default kubeconfig';
    throw new DiskliftError('InvalidRequest', `${what} cannot be read: ${firstLine(error)}`, error);
  }
  const cluster = config.getCurrentCluster();
  if (cluster === null || !URL.canParse(cluster.server ?? ''))
    throw new DiskliftError('InvalidRequest', `${kubeconfig ?? 'the default kubeconfig'}: its current context names no API server`);
  if (new URL(cluster.server).protocol !== 'https:' && !cluster.skipTLSVerify)
    throw new DiskliftError(
      'InvalidRequest',
      kubeconfig === undefined
        ? 'no API server: there is neither a ServiceAccount nor a kubeconfig'
        : `${kubeconfig}: its API server is not reached by https`,
    );
  shareDispatcher(config);
  return config;
}

/** What client-node keeps to itself; the test of this file fails where a release has it no longer. */
interface DispatcherMaker<T> {
  createDispatcher(cluster: Cluster | null, options: AgentOptions): T;
}

/** client-node connects anew for each request. Here they share their connections for as long as certificates and names stay. */
function shareDispatcher(config: KubeConfig): void {
  const maker = config as unknown as DispatcherMaker<unknown>;
  const create = maker.createDispatcher.bind(config);
  let kept: { key: string; dispatcher: unknown } | undefined;
  maker.createDispatcher = (cluster, options) => {
    const key = JSON.stringify(config.createDispatcherOptions(cluster, options));
    if (kept?.key !== key) kept = { key, dispatcher: create(cluster, options) };
    return kept.dispatcher;
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

function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split('\n')[0] as string;
}
