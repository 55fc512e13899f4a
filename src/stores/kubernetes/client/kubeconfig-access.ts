/** The access that a kubeconfig describes. Only this file loads client-node, which takes half a second of CPU time. */

import { readFileSync } from 'node:fs';
import type { AgentOptions } from 'node:https';
import path from 'node:path';
import { type Cluster, HttpMethod, KubeConfig, RequestContext } from '@kubernetes/client-node';
import { Agent, type Dispatcher } from 'undici';
import { parse } from 'yaml';
import { type Clock, systemClock } from '../../../common/clock.ts';
import { DiskliftError } from '../../../common/errors.ts';
import { type ApiAccess, CONNECT_OPTIONS, createTokenFileReader, HTTP_1 } from './api-access.ts';

export interface KubeconfigAccessOptions {
  /** Path of a kubeconfig. When left out: `defaultKubeconfigs`. */
  kubeconfig?: string | undefined;
  /** Existing files. The first file that has an entry wins. */
  defaultKubeconfigs?: readonly string[];
  /** Gives the text of a kubeconfig; from the disk when left out. */
  readText?: (file: string) => string;
  clock?: Pick<Clock, 'monotonicMs'>;
}

/** @throws DiskliftError `InvalidRequest` when no API server is configured, or the configuration cannot be read */
export function createKubeconfigAccess(options: KubeconfigAccessOptions): ApiAccess {
  const { config, user } = loadKubeConfig(options);
  const connections = shareConnections(config, user.impersonation);
  const readToken =
    user.tokenFile === undefined ? undefined : createTokenFileReader(user.tokenFile, (options.clock ?? systemClock).monotonicMs);
  const server = serverOf(config, options.kubeconfig);
  return {
    server,
    namespace: config.getContextObject(config.getCurrentContext())?.namespace?.trim(),
    async authenticate() {
      const request = new RequestContext(server, HttpMethod.GET);
      await config.applySecurityAuthentication(request);
      if (readToken !== undefined) request.setHeaderParam('Authorization', `Bearer ${await readToken()}`);
      return { headers: request.getHeaders(), dispatcher: request.getDispatcher() as Dispatcher };
    },
    ...connections,
  };
}

const readFileText = (file: string) => readFileSync(file, 'utf8');

interface Loaded {
  config: KubeConfig;
  user: KubeconfigUser;
}

function loadKubeConfig({ kubeconfig, defaultKubeconfigs = [], readText = readFileText }: KubeconfigAccessOptions): Loaded {
  try {
    return loadFiles(kubeconfig === undefined ? defaultKubeconfigs : [kubeconfig], readText);
  } catch (error) {
    const why = (error instanceof Error ? error.message : String(error)).split('\n')[0];
    throw new DiskliftError('InvalidRequest', `${nameOf(kubeconfig)} cannot be read: ${why}`, error);
  }
}

/**
 * Merges as kubectl does: the first file that has an entry wins. client-node's own merge throws on duplicates, or the
 * last wins.
 */
function loadFiles(files: readonly string[], readText: (file: string) => string): Loaded {
  const configs = files.map((file) => {
    const config = new KubeConfig();
    config.loadFromString(readText(file));
    config.makePathsAbsolute(path.dirname(file));
    return config;
  });
  const config = new KubeConfig();
  config.loadFromOptions({
    clusters: firstOfEachName(configs.flatMap(({ clusters }) => clusters)),
    contexts: firstOfEachName(configs.flatMap(({ contexts }) => contexts)),
    users: firstOfEachName(configs.flatMap(({ users }) => users)),
    currentContext: configs.find(({ currentContext }) => Boolean(currentContext))?.currentContext,
  });
  const current = config.getCurrentUser();
  const user = current === null ? { impersonation: {} } : readKubeconfigUser(files, current.name, readText);
  if (user.execCommand !== undefined && current?.exec) current.exec.command = user.execCommand;
  return { config, user };
}

function firstOfEachName<T extends { name: string }>(entries: readonly T[]): T[] {
  const byName = new Map<string, T>();
  for (const entry of entries) if (!byName.has(entry.name)) byName.set(entry.name, entry);
  return [...byName.values()];
}

function nameOf(kubeconfig: string | undefined): string {
  return kubeconfig ?? 'the default kubeconfig';
}

function serverOf(config: KubeConfig, kubeconfig: string | undefined): string {
  const cluster = config.getCurrentCluster();
  if (kubeconfig === undefined && config.clusters.length === 0)
    throw new DiskliftError('InvalidRequest', 'no API server: there is neither a ServiceAccount nor a kubeconfig');
  if (cluster === null || !URL.canParse(cluster.server ?? ''))
    throw new DiskliftError('InvalidRequest', `${nameOf(kubeconfig)}: its current context names no API server`);
  if (new URL(cluster.server).protocol === 'https:' || cluster.skipTLSVerify) return cluster.server.replace(/\/+$/, '');
  throw new DiskliftError('InvalidRequest', `${nameOf(kubeconfig)}: its API server has no https`);
}

/** A private method of client-node. The test of this file fails when a release no longer has it. */
interface ConnectionMaker {
  createDispatcher(cluster: Cluster | null, options: AgentOptions): Dispatcher | undefined;
}

/**
 * client-node opens a connection for each request. Here requests share connections as long as certificates and names
 * stay the same.
 */
function shareConnections(config: KubeConfig, impersonation: KubeconfigUser['impersonation']): Pick<ApiAccess, 'reconnect' | 'close'> {
  const maker = config as unknown as ConnectionMaker;
  const create = maker.createDispatcher.bind(config);
  const optionsOf = config.createDispatcherOptions.bind(config);
  let key = '';
  let kept: Dispatcher | undefined;

  config.createDispatcherOptions = (cluster, options) => {
    const made = optionsOf(cluster, options);
    if (made.type === 'agent') return { ...made, connect: { ...made.connect, ...CONNECT_OPTIONS } };
    return made.type === 'proxy'
      ? { ...made, requestTls: { ...made.requestTls, allowPartialTrustChain: true, allowH2: HTTP_1.allowH2 } }
      : made;
  };

  /** Running requests on the old connections may still end. */
  function reconnect(): void {
    kept?.close().catch(() => {});
    kept = undefined;
  }

  maker.createDispatcher = (cluster, options) => {
    // Without any option client-node would create no dispatcher.
    const completed = { rejectUnauthorized: true, ...options };
    const made = config.createDispatcherOptions(cluster, completed);
    const wanted = JSON.stringify(made);
    if (wanted !== key) reconnect();
    key = wanted;
    kept ??= impersonating(
      made.type === 'agent'
        ? new Agent({ ...HTTP_1, connect: made.connect as Agent.Options['connect'] & object })
        : create(cluster, completed),
      impersonation,
    );
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

/** `fetch` joins the values of one header by commas too, so the headers are added in the dispatcher beneath it. */
function impersonating(connections: Dispatcher | undefined, impersonation: KubeconfigUser['impersonation']): Dispatcher | undefined {
  if (Object.keys(impersonation).length === 0) return connections;
  return connections?.compose((dispatch) => (options, handler) => {
    const headers = { ...options.headers, ...impersonation } as Record<string, string[]>;
    return dispatch({ ...options, headers }, handler);
  });
}

/**
 * The fields of a kubeconfig's user that client-node 2.0 ignores: `tokenFile`, impersonation of groups, uid and extra
 * fields, and a credential plugin's command that is relative to the file (k8s.io/client-go/tools/clientcmd,
 * ResolveLocalPaths).
 */
interface KubeconfigUser {
  /** Absolute. */
  tokenFile?: string;
  /** Impersonation headers, each with its values, without `Impersonate-User`. */
  impersonation: Readonly<Record<string, readonly string[]>>;
  /** Absolute path of the credential plugin, where the kubeconfig names it relative to itself. */
  execCommand?: string;
}

interface RawUser {
  tokenFile?: unknown;
  'as-uid'?: unknown;
  'as-groups'?: unknown;
  'as-user-extra'?: unknown;
  exec?: { command?: unknown } | null;
}

/**
 * @param files existing kubeconfigs, in the order of precedence: all fields come from the first file that has the user
 */
export function readKubeconfigUser(files: readonly string[], userName: string, readText = readFileText): KubeconfigUser {
  for (const file of files) {
    const { users } = (parse(readText(file)) ?? {}) as { users?: unknown };
    const found = (Array.isArray(users) ? users : []).find((each) => each?.name === userName);
    if (found !== undefined) return userOf(found.user ?? {}, path.dirname(path.resolve(file)));
  }
  return { impersonation: {} };
}

function userOf(user: RawUser, directory: string): KubeconfigUser {
  const { tokenFile } = user;
  const command = user.exec?.command;
  return {
    impersonation: impersonationOf(user),
    ...(typeof tokenFile === 'string' && tokenFile !== '' ? { tokenFile: path.resolve(directory, tokenFile) } : {}),
    // A name without a separator is searched in PATH.
    ...(typeof command === 'string' && command.includes('/') && !path.isAbsolute(command)
      ? { execCommand: path.join(directory, command) }
      : {}),
  };
}

/** The headers of https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation */
function impersonationOf(user: RawUser): KubeconfigUser['impersonation'] {
  const headers: [string, string[]][] = [
    ['Impersonate-Uid', texts([user['as-uid']])],
    ['Impersonate-Group', texts(user['as-groups'])],
    ...Object.entries(user['as-user-extra'] ?? {}).map(([key, values]): [string, string[]] => [
      `Impersonate-Extra-${encodeURIComponent(key)}`,
      texts(values),
    ]),
  ];
  return Object.fromEntries(headers.filter(([, values]) => values.length > 0));
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((each) => typeof each === 'string') : [];
}
