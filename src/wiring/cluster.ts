/** Composes the store of a sidecar whose requests are the DiskExports of a namespace. */

import { randomUUID } from 'node:crypto';
import dns from 'node:dns/promises';
import os from 'node:os';
import { abortable } from '../common/abortable.ts';
import type { Clock } from '../common/clock.ts';
import { DiskliftError } from '../common/errors.ts';
import { startTimeLimit } from '../common/time-limit.ts';
import type { Config } from '../config/load-config.ts';
import type { DiskExportStatus } from '../resource/disk-export.ts';
import type { Authorize } from '../server/require-token.ts';
import type { RequestStore } from '../stores/contract.ts';
import { createReflector } from '../stores/kubernetes/cache/reflector.ts';
import { createWorkQueue } from '../stores/kubernetes/cache/work-queue.ts';
import { findApiServerHosts } from '../stores/kubernetes/client/api-server-hosts.ts';
import { createKubeApi, limitApi } from '../stores/kubernetes/client/kube-api.ts';
import { createTokenReviewer, listsOf } from '../stores/kubernetes/client/token-reviewer.ts';
import { leaseTimesOf } from '../stores/kubernetes/leases/lease-claim.ts';
import { createLeaseHolder } from '../stores/kubernetes/leases/lease-claims.ts';
import { createEventPoster } from '../stores/kubernetes/store/kubernetes-events.ts';
import { createKubernetesStore, type KubernetesStore } from '../stores/kubernetes/store/kubernetes-store.ts';
import { type NamespaceEndOptions, untilNamespaceEnds } from '../stores/kubernetes/store/namespace-end.ts';
import { findPodWriter } from '../stores/kubernetes/store/pod-writers.ts';
import { createReferenceResolver } from '../stores/kubernetes/store/resolve-reference.ts';
import type { BackupApi } from './backup-checkpoint.ts';
import { openApiAccess } from './open-api-access.ts';
import type { SourceEnvironment } from './sources.ts';

/** A store of requests with what the sidecar needs of it. */
export interface ComposedStore extends Pick<SourceEnvironment, 'findWriter'> {
  /** Left out without an API server. */
  backups?: BackupApi;
  store: RequestStore;
  executor?: NonNullable<DiskExportStatus['executor']>;
  /** Undefined when the store serves requests of any namespace. */
  namespace?: string;
  /** When the list of requests was last up to date, in milliseconds since the epoch. */
  lastSuccessMs(): number | undefined;
  /** Milliseconds since {@link lastSuccessMs}, by a monotonic clock. */
  silenceMs(): number | undefined;
  /** Why requests are not served now, or undefined when they are. */
  readinessProblem(): string | undefined;
  /** Why requests are not served and only a restart helps, or undefined. */
  livenessProblem(): string | undefined;
  /** Asks the API server whether a token permits access; undefined without an API server. */
  authorize?: Authorize;
  /**
   * Hosts of the API server, to which exports must not send. Resolves within about a minute and never fails. Left out
   * without an API server.
   */
  apiServerHosts?: Promise<readonly string[]>;
  /** Called after the last claim is released. */
  close(): Promise<void>;
}

type ClusterConfig = Pick<
  Config,
  'namespace' | 'kubeconfig' | 'podName' | 'podUid' | 'nodeName' | 'containerName' | 'leaseDurationSeconds'
>;

export interface ClusterOptions {
  config: ClusterConfig;
  clock: Clock;
  version: string;
  /** Aborted when the process must end. */
  signal: AbortSignal;
  warn(message: string, key?: string): void;
}

/** After SIGTERM Leases are renewed for this long. */
const ENDING_MS = 3000;
/** After SIGTERM calls of the API server may take this long. */
const FAREWELL_MS = 4000;

/** After SIGTERM events may take this long: nothing depends on them. */
const EVENTS_MS = 1200;

/**
 * The API server answers more often in good health: a watch ends earlier, and a list follows in ten minutes at most.
 */
const SILENCE_MS = 900_000;

/** @throws DiskliftError `InvalidRequest` when there is no API server, or no namespace */
export async function composeCluster(options: ClusterOptions): Promise<ComposedStore> {
  const { config, clock, version, signal, warn } = options;
  const { kubeconfig, podUid, podName, nodeName, containerName } = config;
  const access = await openApiAccess(kubeconfig || undefined, { clock, signal });
  const namespace = config.namespace || access.namespace;
  if (namespace === undefined) throw new DiskliftError('InvalidRequest', 'the namespace to serve is unknown; use --namespace NAME');
  const expired = new DiskliftError('ExecutorLost', 'the API server does not answer, and the process ends');
  const ending = startTimeLimit({ clock, limitMs: ENDING_MS, expired, after: signal });
  const farewell = startTimeLimit({ clock, limitMs: FAREWELL_MS, expired, after: signal });
  const lastEvents = startTimeLimit({ clock, limitMs: EVENTS_MS, expired, after: signal });
  const api = limitApi(createKubeApi({ access, clock, userAgent: `disklift/${version}` }), farewell.signal);
  const queue = createWorkQueue(clock, signal);
  const shared = { clock, random: Math.random, warn };
  const reflector = createReflector({ resource: api.exports, namespace, onKey: queue.add, ...shared });
  const instance = podName || os.hostname();
  const holder = `${instance}_${randomUUID()}`;
  const events = createEventPoster({ events: api.events, instance, clock, warn });
  const executor = { ...(podName && { podName }), ...(podUid && { podUID: podUid }), ...(nodeName && { nodeName }) };
  const store = createKubernetesStore({
    api,
    reflector,
    queue,
    holder,
    self: createLeaseHolder({ holder, instance }),
    executor,
    times: leaseTimesOf(Math.max(3, config.leaseDurationSeconds)),
    stopping: signal,
    ending: ending.signal,
    resolve: createReferenceResolver({ api, namespace, clock, random: Math.random, signal }),
    postEvent: events.post,
    ...shared,
  });
  const running = Promise.all([
    reflector.run(signal),
    leaveEndingNamespace({ namespaces: api.namespaces, namespace, clock, signal, warn }, store),
  ]);
  const own = { podUID: podUid || undefined, containerName: containerName || undefined };
  return {
    store,
    executor,
    namespace,
    backups: api,
    findWriter: cacheWriters(clock, (claimName) => findPodWriter(claimName, { pods: api.pods, namespace, own })),
    lastSuccessMs: () => reflector.lastSuccessMs(),
    readinessProblem: () => (reflector.hasSynced ? undefined : (reflector.problem?.message ?? 'the DiskExports have not been listed yet')),
    silenceMs: () => reflector.silenceMs(),
    livenessProblem() {
      const isSilent = reflector.problem === undefined && (reflector.silenceMs() ?? 0) > SILENCE_MS;
      return isSilent ? 'the API server has not answered for 15 minutes' : undefined;
    },
    apiServerHosts: findApiServerHosts({ discovery: api.discovery, server: access.server, resolve: addressesOf, signal, ...shared }),
    authorize: createTokenReviewer({ reviews: api.reviews, exports: listsOf(['diskexports'], [namespace]), clock, warn }),
    async close() {
      await Promise.all([store.close(), abortable(events.settled(), lastEvents.signal).catch(() => {})]);
      lastEvents.stop();
      ending.stop();
      farewell.stop();
      await running;
      await access.close();
    },
  };
}

async function addressesOf(name: string): Promise<string[]> {
  return (await dns.lookup(name, { all: true })).map(({ address }) => address);
}

async function leaveEndingNamespace(options: Omit<NamespaceEndOptions, 'isNeeded'>, store: KubernetesStore): Promise<void> {
  if (await untilNamespaceEnds({ ...options, isNeeded: () => store.holdsBack() })) await store.leaveNamespace();
}

/** A writer that was found is cached for this long, because waiting exports look every two seconds. */
const WRITER_MS = 5000;

function cacheWriters(clock: Clock, find: NonNullable<SourceEnvironment['findWriter']>): NonNullable<SourceEnvironment['findWriter']> {
  const found = new Map<string, { search: ReturnType<typeof find>; sinceMs: number }>();
  return async (claimName) => {
    const last = found.get(claimName);
    if (last !== undefined && clock.monotonicMs() - last.sinceMs < WRITER_MS) return last.search;
    found.delete(claimName);
    const search = find(claimName);
    const sinceMs = clock.monotonicMs();
    if ((await search).kind === 'writer') found.set(claimName, { search, sinceMs });
    return search;
  };
}
