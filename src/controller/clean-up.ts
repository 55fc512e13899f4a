/** Removes the objects of an export that has ended or is being deleted, and aborts its open upload. Pure. */

import type { KubeObject } from '../stores/kubernetes/client/objects.ts';
import type { Action, ChildResource, Decision } from './decision.ts';
import { areLost, hasObjects, hasPods, isJob, runningPods } from './export-state.ts';
import type { Observed } from './observed.ts';
import { keepSnapshot } from './snapshot-metadata/kept-snapshots.ts';
import { cleanupJobOf, type JobTemplate } from './worker-job.ts';

/** Time in which the worker of a finished export releases its Lease and ends by itself. */
const END_MS = 15_000;

const RECHECK_MS = 5000;

/** Time in which a worker that runs must have ended an export that is cancelled, deleted or beyond its deadline. */
const STOP_MS = 120_000;

/** Timers of Node hold no more than 24 days. */
const MAX_RECHECK_MS = 86_400_000;

interface CleanUpSettings {
  template: JobTemplate;
}

/** A worker that runs ends its export by itself, and aborts its upload. Kubernetes ends a worker that does not. */
export function awaitWorker({ children, stoppingMs }: Observed): Decision {
  return { actions: stoppingMs >= STOP_MS ? remove('jobs', children.job) : [], slot: 'kept', recheckMs: RECHECK_MS };
}

/** Removes every object of an export that has ended. Its worker may need a moment to end by itself. */
export function cleanUpFinished(observed: Observed, settings: CleanUpSettings): Decision {
  const { request, nowMs, children } = observed;
  const endedMs = Date.parse(request.status?.completionTime ?? '') || 0;
  const isWithinGrace = nowMs < endedMs + END_MS;
  if (runningPods(observed).length > 0 && isWithinGrace) return { actions: [], slot: 'kept', recheckMs: endedMs + END_MS - nowMs };
  const abort = abortUploads(observed, settings);
  if (abort !== undefined) return abort;
  const actions = [...remove('jobs', children.job), ...remove('jobs', children.cleanupJob), ...removeRest(observed)];
  if (!hasObjects(observed)) return expire(observed, endedMs);
  // Storage may take hours to delete a snapshot. Other exports need not wait for that.
  return { actions, slot: actions.length === 0 && !hasPods(observed) ? 'free' : 'kept', recheckMs: RECHECK_MS };
}

/** A sidecar that serves the claim deletes the export itself. */
function expire({ request, nowMs, isServed }: Observed, endedMs: number): Decision {
  const { ttlSecondsAfterFinished } = request.spec;
  if (ttlSecondsAfterFinished === undefined || isServed) return { actions: [], slot: 'free' };
  const leftMs = endedMs + ttlSecondsAfterFinished * 1000 - nowMs;
  return leftMs > 0
    ? { actions: [], slot: 'free', recheckMs: Math.min(leftMs, MAX_RECHECK_MS) }
    : { actions: [{ kind: 'remove-export' }], slot: 'free' };
}

/** The garbage collector removes the objects when the export is gone; only the finalizer needs work. */
export function cleanUpTerminating(observed: Observed, settings: CleanUpSettings): Decision {
  if (runningPods(observed).length > 0) return awaitWorker(observed);
  const abort = abortUploads(observed, settings);
  if (abort !== undefined) return abort;
  return { actions: [], slot: hasObjects(observed) && !areLost(observed) ? 'kept' : 'free' };
}

/**
 * An upload is open and no worker is there to abort it: a Job without volumes does.
 * @returns undefined when no upload is open
 */
function abortUploads(observed: Observed, settings: CleanUpSettings): Decision | undefined {
  const { children, hasOpenUpload, isNamespaceTerminating, request, isServed, isTerminating } = observed;
  if (!hasOpenUpload) return undefined;
  if (isServed && children.cleanupJob === undefined && children.job === undefined) return { actions: [], slot: 'free' };
  if (isNamespaceTerminating) return { actions: [{ kind: 'remove-finalizer' }], slot: 'kept', recheckMs: RECHECK_MS };
  // The volumes are not needed, and a pod that waits for them would never abort anything.
  if (children.job !== undefined && !areLost(observed))
    return { actions: remove('jobs', children.job), slot: 'kept', recheckMs: RECHECK_MS };
  const rest = isTerminating ? [] : removeRest(observed);
  if (children.cleanupJob === undefined)
    return {
      slot: 'kept',
      recheckMs: RECHECK_MS,
      actions: [...rest, { kind: 'ensure-access' }, { kind: 'create', resource: 'jobs', object: cleanupJobOf(request, settings.template) }],
    };
  // It failed: another one tries again.
  const again = isJob(children.cleanupJob, 'Failed') || isJob(children.cleanupJob, 'Complete') ? remove('jobs', children.cleanupJob) : [];
  return { actions: [...rest, ...again], slot: 'kept', recheckMs: RECHECK_MS };
}

/** Snapshots go after their clones: Kubernetes keeps the snapshot of a clone in the making, and looks again seldom. */
function removeRest(observed: Observed): Action[] {
  const { clones, snapshots, vmSnapshot, configMap } = observed.children;
  const removed = [...[...clones.values()].flatMap((clone) => remove('persistentVolumeClaims', clone)), ...remove('configMaps', configMap)];
  if (clones.size > 0) return removed;
  const ofSnapshots = [...snapshots.values()].flatMap(
    (snapshot) => keepSnapshot(observed, snapshot) ?? remove('volumeSnapshots', snapshot),
  );
  return [...removed, ...ofSnapshots, ...remove('virtualMachineSnapshots', vmSnapshot)];
}

/** Nothing for an object that is being removed already. */
function remove(resource: ChildResource, object: KubeObject | undefined): Action[] {
  return object === undefined || object.metadata.deletionTimestamp !== undefined ? [] : [{ kind: 'remove', resource, object }];
}
