/** Facts about the process beside the settings: the cluster, proxies, kubeconfigs, and the version. */

import { readFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';

export interface ClusterEnvironment {
  /** Address of the Service `kubernetes`; undefined outside a cluster. */
  serviceHost: string | undefined;
  /** Names of Services end in `.svc` and one of these. */
  domains: readonly string[];
  /** Addresses of the pod. */
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

/** Where the containers of a pod reach the API server. */
export function apiServerEnvironment(environment: Readonly<Record<string, string | undefined>> = process.env): {
  host: string | undefined;
  port: string | undefined;
} {
  return { host: environment.KUBERNETES_SERVICE_HOST, port: environment.KUBERNETES_SERVICE_PORT };
}

export interface ProxyEnvironment {
  httpsProxy?: string;
  httpProxy?: string;
  noProxy?: string;
}

/**
 * Lower case first: of http_proxy, curl takes no other, because HTTP_PROXY can be a header that a CGI program was sent.
 */
export function proxyEnvironment(environment: Readonly<Record<string, string | undefined>> = process.env): ProxyEnvironment {
  const [httpsProxy, httpProxy, noProxy] = [
    environment.https_proxy ?? environment.HTTPS_PROXY,
    environment.http_proxy,
    environment.no_proxy ?? environment.NO_PROXY,
  ];
  return { ...(httpsProxy ? { httpsProxy } : {}), ...(httpProxy ? { httpProxy } : {}), ...(noProxy ? { noProxy } : {}) };
}

/** @returns the files of KUBECONFIG, or else ~/.kube/config; kubectl skips those that are missing */
export function defaultKubeconfigs(environment: Readonly<Record<string, string | undefined>> = process.env): string[] {
  const named = (environment.KUBECONFIG ?? '').split(path.delimiter).filter((file) => file !== '');
  return named.length > 0 ? named : [path.join(environment.HOME ?? os.homedir(), '.kube', 'config')];
}

/** The version of the installed package. */
export function packageVersion(): string {
  const file = new URL('../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}

export interface AwsEnvironment {
  region: string;
  /** A URL; Amazon's own server when left out. */
  endpoint?: string;
  /** File of authorities in PEM. */
  caBundle?: string;
}

/** Amazon's tools take a request without a region for this one, and most other servers ignore it. */
const DEFAULT_REGION = 'us-east-1';

/** The variables of the AWS tools that say where the server is. The SDK reads those of the credentials by itself. */
export function awsEnvironment(environment: Readonly<Record<string, string | undefined>> = process.env): AwsEnvironment {
  const endpoint = environment.AWS_ENDPOINT_URL_S3 || environment.AWS_ENDPOINT_URL;
  const caBundle = environment.AWS_CA_BUNDLE;
  return {
    region: environment.AWS_REGION || environment.AWS_DEFAULT_REGION || DEFAULT_REGION,
    ...(endpoint ? { endpoint } : {}),
    ...(caBundle ? { caBundle } : {}),
  };
}
