/**
 * Decides what the controller does next for one export. Pure and level-based: the same observation gives the same
 * decision, whatever happened before, so the process may be killed between any two calls of the API server.
 *
 * Rules:
 * - A worker whose pod runs owns the status. The controller writes it only while no pod of the export runs.
 * - The final status is written before anything is removed. A pod that begins meanwhile claims the export first, which
 *   changes its version, so the write is refused; a pod that begins later finds the end.
 * - A slot is held while any object of the export exists.
 */

import { awaitWorker, cleanUpFinished, cleanUpTerminating } from './clean-up.ts';
import type { Decision, Report } from './decision.ts';
import { hasObjects, isJob, livePods, mayRun, runningPods } from './export-state.ts';
import type { Observed, PodProblem } from './observed.ts';
import { cloneProblem, DEFAULT_TIMEOUT_SECONDS, prepareSource, type Step } from './prepare-source.ts';
import { refusalBefore } from './refusal-report.ts';
import { nodeOf, sourceProblem } from './source-problems.ts';
import { type End, stopReason, untilDeadlineMs } from './stop-reason.ts';
import type { JobTemplate } from './worker-job.ts';

const RECHECK_MS = 5000;

/** Time in which the outcome of a complete Job must show. */
const OUTCOME_MS = 60_000;

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
  const stop = stopReason(observed.request, observed.nowMs);
  if (stop !== undefined) return endExport(observed, stop);
  return observed.children.job === undefined ? prepare(observed, settings) : follow(observed, settings);
}

/** Ends an export that has not finished. A worker that runs ends it by itself, and aborts its upload. */
function endExport(observed: Observed, { phase, reason, message }: End): Decision {
  if (mayRun(observed)) return awaitWorker(observed);
  const lost = lostWorker(observed);
  const left = lost === undefined ? '' : `; ${lost.message}. Its Job, and clones that it uses, stay until then`;
  return {
    actions: [],
    slot: 'kept',
    report: { reason, message: message + left, end: phase, isProblem: phase === 'Failed' },
    recheckMs: 0,
  };
}

function prepare(observed: Observed, settings: ReconcileSettings): Decision {
  const { request, nowMs } = observed;
  const early = sourceProblem(observed);
  // Without objects it needs no slot until the source is there.
  if (early !== undefined)
    return { ...report(observed, early), ...(hasObjects(observed) || early.kind === 'fail' ? {} : { slot: 'free' }) };
  // A pod of a Job that was deleted may still run.
  if (livePods(observed).length > 0) return { actions: [], slot: 'kept', recheckMs: RECHECK_MS };
  if (!observed.hasSlot) return { actions: [], slot: 'needed', node: nodeOf(observed) };
  const step = prepareSource(observed, settings.template);
  if (step.kind === 'fail') return report(observed, step);
  const problem = refusalBefore(request, step.actions) ?? step.problem;
  if (step.kind === 'wait') return report(observed, { ...step, problem: problem ?? step.problem });
  const { node, facts } = step;
  if (problem !== undefined) {
    const decision = report(observed, { kind: 'wait', problem, actions: step.actions, recheckMs: RECHECK_MS });
    return decision.report?.end === undefined ? { ...decision, node, report: { ...(decision.report as Report), ...facts } } : decision;
  }
  const startMs = Date.parse(request.status?.startTime ?? '') || nowMs;
  return { slot: 'kept', node, actions: step.actions, recheckMs: RECHECK_MS, report: { ...STARTING, startMs, ...facts } };
}

const SOURCE_UNKNOWN = { status: 'Unknown', reason: 'Starting', message: 'the pod has not looked at the disks yet' } as const;
const STARTING = { reason: 'Starting', message: 'a pod is being started', sourceReady: SOURCE_UNKNOWN };

/** Reasons of a source that other programs are working on. */
const PENDING: ReadonlySet<string> = new Set(['SnapshotPending', 'ClonePending', 'BackupPending']);

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
    recheckMs: untilDeadline(observed, step.recheckMs),
    report: {
      ...problem,
      ...(hasSlot ? { startMs: Date.parse(request.status?.startTime ?? '') || nowMs } : {}),
      sourceReady: { status: 'False', ...problem },
      isProblem: !PENDING.has(problem.reason),
    },
  };
}

/**
 * The time since which the source is not ready; NaN when it does not count. It survives a restart: the first object has
 * it, or else the condition SourceReady. Time in which another program suspends the Job does not count.
 */
function unreadySinceMs({ request, children }: Observed): number {
  const { job, vmSnapshot, snapshots, clones } = children;
  if (job?.spec.suspend) return Number.NaN;
  const made = [vmSnapshot, ...snapshots.values(), ...clones.values()].flatMap((each) => each?.metadata.creationTimestamp ?? []);
  const suspendedMs = Date.parse(job?.status?.startTime ?? '') - Date.parse(job?.metadata.creationTimestamp ?? '');
  if (made.length > 0) return Math.min(...made.map((time) => Date.parse(time))) + Math.max(0, suspendedMs || 0);
  const ready = request.status?.conditions?.find(({ type }) => type === 'SourceReady');
  return ready?.status === 'False' ? Date.parse(ready.lastTransitionTime ?? '') : Number.NaN;
}

function timeoutSecondsOf({ request }: Observed): number {
  return request.spec.snapshot?.timeoutSeconds ?? DEFAULT_TIMEOUT_SECONDS;
}

/** @returns the shorter one of a wait and the time that is left for the source */
function untilDeadline(observed: Observed, waitMs: number | undefined): number | undefined {
  const leftMs = unreadySinceMs(observed) + timeoutSecondsOf(observed) * 1000 - observed.nowMs;
  return waitMs !== undefined && leftMs < waitMs ? leftMs : waitMs;
}

function lateEnd(observed: Observed, problem: PodProblem): End | undefined {
  const timeoutSeconds = timeoutSecondsOf(observed);
  if (!(observed.nowMs >= unreadySinceMs(observed) + timeoutSeconds * 1000)) return undefined;
  return { phase: 'Failed', reason: problem.reason, message: `${problem.message}; it was not ready within ${timeoutSeconds} seconds` };
}

/** The Job exists: its pod exports, or says why it does not start. */
function follow(observed: Observed, settings: ReconcileSettings): Decision {
  const { children } = observed;
  const { job, pods } = children;
  const [running] = runningPods(observed);
  if (running !== undefined)
    return { actions: [], slot: 'kept', node: running.nodeName, recheckMs: untilDeadlineMs(observed.request, observed.nowMs) };
  if (isJob(job, 'Failed')) return endExport(observed, workerFailure(observed));
  if (mayRun(observed)) return { actions: [], slot: 'kept', recheckMs: RECHECK_MS };
  if (isJob(job, 'Complete')) return awaitOutcome(observed);
  const waiting = pods.find(({ phase }) => phase === 'Pending');
  const clone = cloneProblem(observed);
  const podProblem = lostWorker(observed) ?? children.startProblem ?? waiting?.problem ?? suspended(job);
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
  const isProblem = podProblem !== undefined;
  return { actions: [], slot: 'kept', node, report: { ...STARTING, ...state, isProblem }, recheckMs: RECHECK_MS };
}

/** The worker has written its outcome, and the cache shows it soon. */
function awaitOutcome(observed: Observed): Decision {
  const complete = observed.children.job?.status?.conditions?.find(({ type }) => type === 'Complete');
  const completeMs = Date.parse(complete?.lastTransitionTime ?? '');
  if (!(observed.nowMs >= completeMs + OUTCOME_MS)) return { actions: [], slot: 'kept', recheckMs: RECHECK_MS };
  const message = "the worker's Job is complete, but the worker has not reported how the export ended";
  return endExport(observed, { phase: 'Failed', reason: 'WorkerFailed', message });
}

/** A pod that never starts would hold its slot for ever. Pods after the first one have the deadline of the request. */
function lateStart({ request, children, nowMs }: Observed, settings: ReconcileSettings, { reason, message }: PodProblem): End | undefined {
  const startedMs = Date.parse(children.job?.status?.startTime ?? '');
  const { podStartTimeoutMs } = settings;
  if (request.status?.executor !== undefined || !(nowMs >= startedMs + podStartTimeoutMs)) return undefined;
  return { phase: 'Failed', reason, message: `${message}; no pod started within ${podStartTimeoutMs / 1000} seconds` };
}

/** No other pod begins before a lost one is gone: it may still use the volume. */
function lostWorker(observed: Observed): PodProblem | undefined {
  const lost = observed.children.pods.find(({ isLost }) => isLost);
  if (lost === undefined) return undefined;
  const where = lost.nodeName === undefined ? '' : ` on the node ${lost.nodeName}`;
  const advice = 'if the node is lost, delete it or give it the taint node.kubernetes.io/out-of-service, and the pod goes';
  return { reason: 'WorkerLost', message: `the pod ${lost.name}${where} was deleted and does not end: ${advice}` };
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
