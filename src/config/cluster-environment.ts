/** Facts of the cluster in the environment of a pod. */

import { readFileSync } from 'node:fs';
import os from 'node:os';

export interface ClusterEnvironment {
  /** Address of the Service `kubernetes`; undefined outside a cluster. */
  serviceHost: string | undefined;
  /** Names of Services end in `.svc` and one of these. */
  domains: readonly string[];
  /** Of the pod. */
  ownAddresses: readonly string[];
}

interface Surroundings {
  environment?: Readonly<Record<string, string | undefined>>;
  resolverFile?: string;
}

export function clusterEnvironment({
  environment = process.env,
  resolverFile = '/etc/resolv.conf',
}: Surroundings = {}): ClusterEnvironment {
  const serviceHost = environment.KUBERNETES_SERVICE_HOST;
  if (!serviceHost) return { serviceHost: undefined, domains: [], ownAddresses: [] };
  const ownAddresses = Object.values(os.networkInterfaces()).flatMap((each = []) => each.map(({ address }) => address));
  return { serviceHost, domains: [...new Set(['cluster.local', ...searchDomains(resolverFile)])], ownAddresses };
}

/** The kubelet writes `search NAMESPACE.svc.DOMAIN svc.DOMAIN DOMAIN`. */
function searchDomains(file: string): string[] {
  try {
    return [...readFileSync(file, 'utf8').matchAll(/(?<=\s)svc\.([^\s]+)/g)].map((match) => match[1] as string);
  } catch {
    return [];
  }
}
