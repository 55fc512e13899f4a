/** The places of a cluster, as entries of the destination policy. Pure. */

import { isIP } from 'node:net';
import { createAddressSet } from './addresses.ts';

/** The cluster of this process, as far as the process can see it. */
export interface ClusterPlaces {
  /** External: exports may not send to Services and pods. */
  scope: 'External' | 'Cluster';
  /** CIDRs of Services, pods and nodes, from the operator's settings. */
  networks: readonly string[];
  /** Address of the Service `kubernetes`; left out where the process runs in no cluster. */
  serviceHost?: string | undefined;
  /** Names of Services end in `.svc` and one of these. */
  domains?: readonly string[];
  nodeAddresses?: readonly string[];
  /** Addresses of this pod. */
  ownAddresses?: readonly string[];
}

/** Hosts that are refused for one reason. */
export interface Denial {
  /** Completes "the destination policy does not allow it: ". */
  reason: string;
  entries: readonly string[];
}

export const API_SERVER = 'it is the API server; allowDestination would allow it';

export function denialsOf({ scope, networks, serviceHost, domains = [], nodeAddresses = [], ownAddresses = [] }: ClusterPlaces): Denial[] {
  const inCluster: Denial = {
    reason: 'it lies in the cluster; allowDestination or destinationScope: Cluster would allow it',
    entries: [...serviceNames(domains), ...(networks.length > 0 ? networks : serviceNetworks(serviceHost))],
  };
  return [
    { reason: API_SERVER, entries: [...apiServerNames(domains), ...(serviceHost === undefined ? [] : [serviceHost])] },
    { reason: 'it is the node of this pod; allowDestination would allow it', entries: nodeAddresses },
    { reason: 'it is this pod; allowDestination would allow it', entries: ownAddresses },
    ...(scope === 'External' ? [inCluster] : []),
  ];
}

/** Private networks: a cluster may use them for its pods, and an organisation for its servers. */
const PRIVATE_NETWORKS: readonly string[] = ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', 'fc00::/7'];

/** @returns networks whose servers may be pods or other nodes, as far as this process can know */
export function doubtfulNetworks({ scope, networks, serviceHost }: ClusterPlaces): readonly string[] {
  const isOpen = scope === 'Cluster' || networks.length > 0 || serviceHost === undefined;
  return isOpen ? [] : PRIVATE_NETWORKS;
}

function apiServerNames(domains: readonly string[]): string[] {
  const names = ['kubernetes.default', 'kubernetes.default.svc'];
  return [...names, ...domains.map((domain) => `kubernetes.default.svc.${domain}`)];
}

function serviceNames(domains: readonly string[]): string[] {
  return ['*.svc', ...domains.flatMap((domain) => [`*.svc.${domain}`, `*.pod.${domain}`])];
}

/** Default of kubeadm, Talos, minikube. */
const KUBEADM_SERVICES = '10.96.0.0/12';

/**
 * The API server gives the first address of the Services to the Service `kubernetes`. The length of their network is
 * not visible from a pod: most distributions have a /16, and a wider guess would refuse the networks beside it.
 */
function serviceNetworks(serviceHost: string | undefined): string[] {
  if (serviceHost === undefined) return [];
  if (isIP(serviceHost) === 6) return [`${serviceHost}/108`];
  const kubeadm = createAddressSet();
  kubeadm.add('10.96.0.0/16');
  return isIP(serviceHost) === 4 ? [kubeadm.has(serviceHost) ? KUBEADM_SERVICES : `${serviceHost}/16`] : [];
}
