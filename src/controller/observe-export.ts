/** Gathers what is known of one export: from the caches, and by a few calls where a decision needs more. */

import type { Clock } from '../common/clock.ts';
import type { DiskExport } from '../resource/disk-export.ts';
import { namesOpenUpload } from '../resource/status.ts';
import type { StoredRequest } from '../stores/contract.ts';
import type { FleetApi } from '../stores/kubernetes/client/fleet-api.ts';
import type { ClaimObject, VolumeSnapshotObject } from '../stores/kubernetes/client/fleet-objects.ts';
import type { ExportObject } from '../stores/kubernetes/client/objects.ts';
import { hasFinalizer, isTerminating } from '../stores/kubernetes/store/export-object.ts';
import { cleanupName, exportUidOf, indexOfVolumeObject, objectName } from './export-objects.ts';
import type { FleetCache } from './fleet-cache.ts';
import { createSourceObserver, type SourceObserver } from './observe-source.ts';
import type { Children, KeptSnapshots, Observed } from './observed.ts';
import { serves } from './served-claims.ts';
import { hasTracker, TRACKER_LABEL } from './snapshot-metadata/kept-snapshots.ts';
import { createStartProblems, type StartProblems } from './start-problems.ts';
import { stopReason } from './stop-reason.ts';
import { createStoredRequests } from './stored-requests.ts';
import { workerPodOf } from './worker-pod.ts';

export interface ObservedExport {
  /** The version of the object on which the observation is based. */
  object: ExportObject;
  observed: Observed;
  /** The observation may change after this time without an event. */
  recheckMs?: number | undefined;
}

interface InvalidExport {
  object: ExportObject;
  invalid: StoredRequest & { kind: 'invalid' };
}

interface SlotState {
  hasSlot: boolean;
  /** Whether it waits for a slot: then its source was looked at already. */
  isWaiting: boolean;
}

export interface ExportObserver {
  /** @returns undefined when there is nothing to do for the export @throws DiskliftError of the API server */
  observe(
    key: string,
    slot: SlotState,
  ): Promise<ObservedExport | { invalid: StoredRequest & { kind: 'invalid' }; object: ExportObject } | undefined>;
  /** The request in its latest known version; undefined for one that is gone or invalid. */
  requestOf(key: string): DiskExport | undefined;
  forget(key: string): void;
}

export interface ExportObserverOptions {
  api: FleetApi;
  cache: FleetCache;
  clock: Clock;
}

/** Time in which a sidecar, or a Job of the user, may begin to serve a new export of a claim. */
const SERVED_GRACE_MS = 3000;

/** Time in which the sidecar that began an export may come back. */
const ABANDONED_MS = 120_000;

export function createExportObserver(options: ExportObserverOptions): ExportObserver {
  return new Observer(options);
}

class Observer implements ExportObserver {
  private readonly options: ExportObserverOptions;
  private readonly sources: SourceObserver;
  private readonly problems: StartProblems;
  private readonly stored = createStoredRequests();
  /** When an export that a sidecar began was first seen without one. */
  private readonly abandoned = new Map<string, number>();
  /** When an export was first seen that must stop. */
  private readonly stopping = new Map<string, number>();

  constructor(options: ExportObserverOptions) {
    this.options = options;
    this.sources = createSourceObserver(options);
    this.problems = createStartProblems(options);
  }

  requestOf(key: string): DiskExport | undefined {
    const stored = this.storedOf(key)?.stored;
    return stored?.kind === 'request' ? stored.request : undefined;
  }

  forget(key: string): void {
    this.abandoned.delete(key);
    this.stopping.delete(key);
  }

  async observe(key: string, { hasSlot, isWaiting }: SlotState): Promise<ObservedExport | InvalidExport | undefined> {
    const { clock } = this.options;
    const found = this.storedOf(key);
    if (found === undefined) return undefined;
    const { object, stored } = found;
    if (stored.kind === 'invalid') return { invalid: stored, object };
    const { request } = stored;
    const { children, hasObjects } = this.childrenOf(key, request);
    const otherMs = hasObjects ? 0 : this.servedMs(key, request);
    const isOver = isTerminating(object) || request.status?.completionTime !== undefined;
    // A worker that was stopped has removed the finalizer, and its upload is still in the status.
    const hasOpenUpload = hasFinalizer(object) || (request.status?.completionTime !== undefined && namesOpenUpload(request.status));
    const hasJob = children.job !== undefined;
    const needsSource = !isOver && otherMs === 0 && !request.spec.cancel && !hasJob && (hasSlot || !isWaiting);
    const isRunning = children.pods.some(({ phase }) => phase === 'Running');
    return {
      object,
      recheckMs: otherMs > 0 && Number.isFinite(otherMs) ? otherMs : undefined,
      observed: {
        nowMs: clock.nowMs(),
        request,
        isTerminating: isTerminating(object),
        hasOpenUpload,
        isNamespaceTerminating: isOver && hasOpenUpload && !isRunning && (await this.isNamespaceEnding(request)),
        stoppingMs: this.stoppingMs(key, request, isTerminating(object)),
        isServed: otherMs > 0,
        hasSlot,
        children: hasJob && !isOver ? { ...children, startProblem: await this.problems.find(children) } : children,
        source: needsSource ? await this.sources.observe(request, children) : undefined,
        kept: isOver && !isTerminating(object) ? await this.keptOf(request, children) : undefined,
      },
    };
  }

  /** Looks only when the export has left a snapshot that may stay. */
  private async keptOf({ metadata, spec, status }: DiskExport, { snapshots }: Children): Promise<KeptSnapshots | undefined> {
    const tracker = [...snapshots.values()].find(hasTracker)?.metadata.labels?.[TRACKER_LABEL];
    if (tracker === undefined || status?.phase !== 'Succeeded') return undefined;
    const { api } = this.options;
    const { namespace } = metadata;
    const [{ items }, claim] = await Promise.all([
      api.volumeSnapshots.list(namespace, { labelSelector: `${TRACKER_LABEL}=${tracker}` }),
      api.persistentVolumeClaims.get({ namespace, name: spec.source.persistentVolumeClaim?.claimName ?? '' }),
    ]);
    return { claim, earlier: items.filter((each) => exportUidOf(each.metadata) === undefined) };
  }

  private stoppingMs(key: string, request: DiskExport, isDeleted: boolean): number {
    const { clock } = this.options;
    const mustStop = isDeleted || (request.status?.completionTime === undefined && stopReason(request, clock.nowMs()) !== undefined);
    if (!mustStop) this.stopping.delete(key);
    if (!mustStop) return 0;
    const sinceMs = this.stopping.get(key) ?? clock.monotonicMs();
    this.stopping.set(key, sinceMs);
    return clock.monotonicMs() - sinceMs;
  }

  private storedOf(key: string): { object: ExportObject; stored: StoredRequest } | undefined {
    const object = this.options.cache.exports.get(key);
    const stored = object === undefined ? undefined : this.stored.of(key, object);
    return object === undefined || stored === undefined ? undefined : { object, stored };
  }

  private childrenOf(key: string, request: DiskExport): { children: Children; hasObjects: boolean } {
    const { cache } = this.options;
    const { namespace, uid } = request.metadata;
    const keyOf = (name: string) => `${namespace}/${name}`;
    const snapshots = new Map<number, VolumeSnapshotObject>();
    const clones = new Map<number, ClaimObject>();
    // An export of the same name that was deleted may still have objects.
    const own = objectName(request);
    const found = [...cache.childrenOf(key)].filter(({ name }) => name === own || name.startsWith(`${own}-`));
    for (const { resource, name } of found) {
      const index = indexOfVolumeObject(request, name);
      if (index === undefined) continue;
      const snapshot = resource === 'volumeSnapshots' ? cache.child(resource, keyOf(name)) : undefined;
      if (snapshot !== undefined) snapshots.set(index, snapshot);
      const clone = resource === 'persistentVolumeClaims' ? cache.child(resource, keyOf(name)) : undefined;
      if (clone !== undefined) clones.set(index, clone);
    }
    const main = keyOf(own);
    const pods = cache
      .workersOf(key)
      .filter(({ metadata }) => exportUidOf(metadata) === uid)
      .map((pod) => workerPodOf(pod, this.options.clock.nowMs()));
    return {
      hasObjects: found.length > 0 || pods.length > 0,
      children: {
        job: cache.child('jobs', main),
        cleanupJob: cache.child('jobs', keyOf(cleanupName(request))),
        pods,
        vmSnapshot: cache.child('virtualMachineSnapshots', main),
        snapshots,
        clones,
        configMap: cache.child('configMaps', main),
      },
    };
  }

  /** @returns how long another process still may serve it, in milliseconds; 0 when none does */
  private servedMs(key: string, request: DiskExport): number {
    const { cache, clock } = this.options;
    const { claimName } = request.spec.source.persistentVolumeClaim ?? {};
    const isOpenToSidecars = claimName !== undefined && (request.spec.snapshot === undefined || request.spec.snapshot.mode === 'Never');
    if (!isOpenToSidecars) return 0;
    const { namespace, name, creationTimestamp } = request.metadata;
    if (cache.usersOf(namespace, claimName).some((pod) => serves(pod, claimName, name))) {
      this.abandoned.delete(key);
      return Number.POSITIVE_INFINITY;
    }
    const { executor } = request.status ?? {};
    if (executor?.podName?.startsWith(`${objectName(request)}-`)) return 0;
    if (executor === undefined) return Math.max(0, (Date.parse(creationTimestamp ?? '') || 0) + SERVED_GRACE_MS - clock.nowMs());
    const sinceMs = this.abandoned.get(key) ?? clock.monotonicMs();
    this.abandoned.set(key, sinceMs);
    return Math.max(0, sinceMs + ABANDONED_MS - clock.monotonicMs());
  }

  private async isNamespaceEnding({ metadata: { namespace } }: DiskExport): Promise<boolean> {
    const found = await this.options.api.namespaces.get({ namespace: '', name: namespace });
    return found === undefined || found.metadata.deletionTimestamp !== undefined;
  }
}
