/**
 * Decides what the controller does next for one export. Pure and level-based: the same observation gives the same
 * decision, whatever happened before, so the process may be killed between any two calls of the API server.
 *
 * Rules:
 * - A worker whose pod runs owns the status. The controller writes it only while no pod of the export runs.
 * - The final status is written before anything is removed, except for a Job: a Job is removed first, since its pod
 *   could still write.
 * - A slot is held while any object of the export exists.
 */

import type { KubeObject } from '../stores/kubernetes/client/objects.ts';
import type { Action, ChildResource, Decision } from './decision.ts';
import type { Observed, PodProblem, WorkerPod } from './observed.ts';
import { cloneProblem, DEFAULT_TIMEOUT_SECONDS, prepareSource, type Step, sourceProblem } from './prepare-source.ts';
import { cleanupJobOf, type JobTemplate } from './worker-job.ts';

/** Time in which the worker of a finished export releases its Lease and ends by itself. */
const END_MS = 15_000;

const RECHECK_MS = 5000;

/** Timers of Node hold no more than 24 days. */
const MAX_RECHECK_MS = 86_400_000;

export interface ReconcileSettings {
  template: JobTemplate;
  /** Time for the first pod to start, from the start of the Job. A Job that is suspended has not started. */
  podStartTimeoutMs: number;
}

export function reconcile(observed: Observed, settings: ReconcileSettings): Decision {
  const { request, isTerminating } = observed;
  if (isTerminating) return cleanUpTerminating(observed, settings);
  if (request.status?.completionTime !== undefined) return cleanUpFinished(observed, settings);
  if (observed.isServed && !hasObjects(observed)) return { actions: [], slot: 'free' };
  const stop = stopReason(observed);
  if (stop !== undefined) return endExport(observed, stop);
  return observed.children.job === undefined ? prepare(observed, settings) : follow(observed, settings);
}

interface End {
  phase: 'Failed' | 'Cancelled';
  reason: string;
  message: string;
}

/** Why the export must end without success, whatever its source. */
function stopReason({ request, nowMs }: Observed): End | undefined {
  const { spec, status } = request;
  if (spec.cancel) return { phase: 'Cancelled', reason: 'Cancelled', message: 'cancelled by spec.cancel' };
  const startMs = Date.parse(status?.startTime ?? '');
  const { activeDeadlineSeconds } = spec;
  if (activeDeadlineSeconds !== undefined && nowMs >= startMs + activeDeadlineSeconds * 1000) {
    const doing = status?.message === undefined ? '' : `; the last state: ${status.message}`;
    return {
      phase: 'Failed',
      reason: 'DeadlineExceeded',
      message: `the export did not end within ${activeDeadlineSeconds} seconds${doing}`,
    };
  }
  return undefined;
}

/** The kubelet reports a pod a moment after its process has begun; a status with the pod's UID shows it earlier. */
function runningPods({ children, request }: Observed): WorkerPod[] {
  const { podUID } = request.status?.executor ?? {};
  return children.pods.filter(
    ({ phase, uid }) => phase === 'Running' || phase === 'Unknown' || (phase === 'Pending' && podUID !== undefined && uid === podUID),
  );
}

/** Pods that run or may still begin to. */
function livePods({ children }: Observed): WorkerPod[] {
  return children.pods.filter(({ phase }) => phase !== 'Succeeded' && phase !== 'Failed');
}

/** Ends an export that has not finished. A worker that runs ends it by itself, and aborts its upload. */
function endExport(observed: Observed, { phase, reason, message }: End): Decision {
  if (runningPods(observed).length > 0) return { actions: [], slot: 'kept', recheckMs: RECHECK_MS };
  const { job } = observed.children;
  // A pod could begin between the look and the write, so the Job and its pods go first.
  if (job !== undefined || livePods(observed).length > 0) return { actions: remove('jobs', job), slot: 'kept', recheckMs: RECHECK_MS };
  return { actions: [], slot: 'kept', report: { reason, message, end: phase, isProblem: phase === 'Failed' }, recheckMs: 0 };
}

function prepare(observed: Observed, settings: ReconcileSettings): Decision {
  const { request, nowMs } = observed;
  const early = sourceProblem(observed);
  if (early !== undefined) return report(observed, early);
  // A pod of a Job that was deleted may still run.
  if (livePods(observed).length > 0) return { actions: [], slot: 'kept', recheckMs: RECHECK_MS };
  if (!observed.hasSlot)
    return { actions: [], slot: 'needed', node: observed.source?.volumes.find(({ node }) => node !== undefined)?.node };
  const step = prepareSource(observed, settings.template);
  if (step.kind !== 'run') return report(observed, step);
  const startMs = Date.parse(request.status?.startTime ?? '') || nowMs;
  return {
    slot: 'kept',
    node: step.node,
    actions: step.actions,
    report: {
      reason: 'Starting',
      message: 'a pod is being started',
      startMs,
      sourceReady: { status: 'Unknown', reason: 'Starting', message: 'the pod has not looked at the disks yet' },
      ...step.facts,
    },
  };
}

/** Reports what the export waits for. A source that is not ready for too long ends the export. */
function report(observed: Observed, step: Exclude<Step, { kind: 'run' }>): Decision {
  const { problem } = step;
  if (step.kind === 'fail') return endExport(observed, { phase: 'Failed', ...problem });
  const late = lateEnd(observed, problem);
  if (late !== undefined) return endExport(observed, late);
  const { request, nowMs, hasSlot } = observed;
  return {
    slot: hasSlot ? 'kept' : 'free',
    actions: step.actions ?? [],
    recheckMs: step.recheckMs,
    report: {
      ...problem,
      ...(hasSlot ? { startMs: Date.parse(request.status?.startTime ?? '') || nowMs } : {}),
      sourceReady: { status: 'False', ...problem },
      isProblem: problem.reason !== 'SnapshotPending' && problem.reason !== 'ClonePending',
    },
  };
}

/** The condition SourceReady has the time since which the source is not ready. It survives a restart. */
function lateEnd({ request, nowMs }: Observed, problem: PodProblem): End | undefined {
  const ready = request.status?.conditions?.find(({ type }) => type === 'SourceReady');
  const sinceMs = ready?.status === 'False' ? Date.parse(ready.lastTransitionTime ?? '') : Number.NaN;
  const timeoutSeconds = request.spec.snapshot?.timeoutSeconds ?? DEFAULT_TIMEOUT_SECONDS;
  if (!(nowMs >= sinceMs + timeoutSeconds * 1000)) return undefined;
  return { phase: 'Failed', reason: problem.reason, message: `${problem.message}; it was not ready within ${timeoutSeconds} seconds` };
}

/** The Job exists: its pod exports, or says why it does not start. */
function follow(observed: Observed, settings: ReconcileSettings): Decision {
  const { children } = observed;
  const { job, pods } = children;
  const [running] = runningPods(observed);
  if (running !== undefined) return { actions: [], slot: 'kept', node: running.nodeName, recheckMs: undefined };
  if (isJob(job, 'Failed')) return endExport(observed, workerFailure(observed));
  // The worker has written its outcome; the cache shows it soon.
  if (isJob(job, 'Complete')) return { actions: [], slot: 'kept', recheckMs: RECHECK_MS };
  const waiting = pods.find(({ phase }) => phase === 'Pending');
  const clone = cloneProblem(observed);
  const podProblem = waiting?.problem ?? children.startProblem ?? suspended(job);
  const node = waiting?.nodeName;
  if (clone !== undefined) {
    const problem = podProblem === undefined ? clone : { reason: podProblem.reason, message: `${clone.message}: ${podProblem.message}` };
    return { ...report(observed, { kind: 'wait', problem, recheckMs: RECHECK_MS }), node };
  }
  const last = pods.findLast(({ phase }) => phase === 'Failed');
  const before = last?.problem === undefined ? '' : `another pod is being started; ${last.name}: ${last.problem.message}`;
  const state = podProblem ?? { reason: 'Starting', message: before === '' ? 'a pod is being started' : before };
  const late = lateStart(observed, settings, state);
  if (late !== undefined) return endExport(observed, late);
  const sourceReady = { status: 'Unknown', reason: 'Starting', message: 'the pod has not looked at the disks yet' } as const;
  const isProblem = podProblem !== undefined;
  return { actions: [], slot: 'kept', node, report: { ...state, sourceReady, isProblem }, recheckMs: RECHECK_MS };
}

/** A pod that never starts would hold its slot for ever. Pods after the first one have the deadline of the request. */
function lateStart({ request, children, nowMs }: Observed, settings: ReconcileSettings, { reason, message }: PodProblem): End | undefined {
  const startedMs = Date.parse(children.job?.status?.startTime ?? '');
  const { podStartTimeoutMs } = settings;
  if (request.status?.executor !== undefined || !(nowMs >= startedMs + podStartTimeoutMs)) return undefined;
  return { phase: 'Failed', reason, message: `${message}; no pod started within ${podStartTimeoutMs / 1000} seconds` };
}

/** Kueue and other queues of the cluster suspend a Job until its turn. */
function suspended(job: Observed['children']['job']): PodProblem | undefined {
  return job?.spec.suspend ? { reason: 'JobSuspended', message: 'the Job is suspended, and another program has to resume it' } : undefined;
}

function workerFailure({ children, request }: Observed): End {
  const last = children.pods.findLast(({ problem }) => problem !== undefined);
  const failed = children.job?.status?.conditions?.find(({ type, status }) => type === 'Failed' && status === 'True');
  const why = last === undefined ? (failed?.message ?? 'its pods failed') : `${last.name}: ${last.problem?.message}`;
  const before = request.status?.executor === undefined ? ' before it could begin' : '';
  return { phase: 'Failed', reason: 'WorkerFailed', message: `the worker's Job failed${before}: ${why}` };
}

function isJob(job: Observed['children']['job'], type: 'Failed' | 'Complete'): boolean {
  return job?.status?.conditions?.some((each) => each.type === type && each.status === 'True') ?? false;
}

/** Removes every object of an export that has ended. Its worker may need a moment to end by itself. */
function cleanUpFinished(observed: Observed, settings: ReconcileSettings): Decision {
  const { request, nowMs, children } = observed;
  const endedMs = Date.parse(request.status?.completionTime ?? '') || 0;
  const isWithinGrace = nowMs < endedMs + END_MS;
  if (runningPods(observed).length > 0 && isWithinGrace) return { actions: [], slot: 'kept', recheckMs: endedMs + END_MS - nowMs };
  const abort = abortUploads(observed, settings);
  if (abort !== undefined) return abort;
  const actions = [...remove('jobs', children.job), ...remove('jobs', children.cleanupJob), ...removeRest(observed)];
  return hasObjects(observed) ? { actions, slot: 'kept' } : expire(observed, endedMs);
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
function cleanUpTerminating(observed: Observed, settings: ReconcileSettings): Decision {
  if (runningPods(observed).length > 0) return { actions: [], slot: 'kept', recheckMs: RECHECK_MS };
  const abort = abortUploads(observed, settings);
  if (abort !== undefined) return abort;
  return { actions: [], slot: hasObjects(observed) ? 'kept' : 'free' };
}

/**
 * An upload is open and no worker is there to abort it: a Job without volumes does.
 * @returns undefined when no upload is open
 */
function abortUploads(observed: Observed, settings: ReconcileSettings): Decision | undefined {
  const { children, hasOpenUpload, isNamespaceTerminating, request, isServed, isTerminating } = observed;
  if (!hasOpenUpload) return undefined;
  if (isServed && children.cleanupJob === undefined && children.job === undefined) return { actions: [], slot: 'free' };
  if (isNamespaceTerminating) return { actions: [{ kind: 'remove-finalizer' }], slot: 'kept', recheckMs: RECHECK_MS };
  // The volumes are not needed, and a pod that waits for them would never abort anything.
  if (children.job !== undefined) return { actions: remove('jobs', children.job), slot: 'kept', recheckMs: RECHECK_MS };
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

function removeRest({ children }: Observed): Action[] {
  return [
    ...[...children.clones.values()].flatMap((clone) => remove('persistentVolumeClaims', clone)),
    ...[...children.snapshots.values()].flatMap((snapshot) => remove('volumeSnapshots', snapshot)),
    ...remove('virtualMachineSnapshots', children.vmSnapshot),
    ...remove('configMaps', children.configMap),
  ];
}

/** Nothing for an object that is being removed already. */
function remove(resource: ChildResource, object: KubeObject | undefined): Action[] {
  return object === undefined || object.metadata.deletionTimestamp !== undefined ? [] : [{ kind: 'remove', resource, object }];
}

function hasObjects({ children }: Observed): boolean {
  const { job, cleanupJob, pods, vmSnapshot, snapshots, clones, configMap } = children;
  return (
    [job, cleanupJob, vmSnapshot, configMap].some((each) => each !== undefined) || pods.length > 0 || snapshots.size > 0 || clones.size > 0
  );
}
