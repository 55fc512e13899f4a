/**
 * Stops the Deployments and Jobs of a release, and waits until their pods have ended, before the Role of the pods is
 * deleted.
 */

import { throwIfAborted } from '../../../common/abortable.ts';
import type { Clock } from '../../../common/clock.ts';
import { DiskliftError } from '../../../common/errors.ts';
import { isApiFailure } from '../client/api-failure.ts';
import type { WorkloadApi } from '../client/contract.ts';
import type { PodObject } from '../client/objects.ts';

export interface StopWorkloadsOptions {
  api: WorkloadApi;
  namespace: string;
  /** Names of Deployments to scale to 0. A missing one counts as stopped. */
  deployments: readonly string[];
  /** Names of Jobs to suspend. A missing or finished one counts as stopped. */
  jobs: readonly string[];
  /** Names of CronJobs to suspend, with the Jobs that they have created. */
  cronJobs: readonly string[];
  /** Selects all pods of these workloads, and no other pod. */
  labelSelector: string;
  /** Time limit of the whole call. Until then every failure is retried. */
  limitMs: number;
  clock: Clock;
  signal: AbortSignal;
}

const POLL_MS = 1000;

/** Time limit of one call of the API server. */
export const CALL_LIMIT_MS = 5000;

/**
 * @returns undefined when no pod is left, else the reason in one line
 * @throws DiskliftError when `signal` is aborted
 */
export async function stopWorkloads(options: StopWorkloadsOptions): Promise<string | undefined> {
  const stops = pendingStops(options);
  return pollProblem(options, () => findProblem(options, stops));
}

/**
 * @param find returns what is still wrong, in one line
 * @returns undefined as soon as nothing is wrong, else the last problem when the time is over
 * @throws DiskliftError when `signal` is aborted
 */
export async function pollProblem(
  { limitMs, clock, signal }: Pick<StopWorkloadsOptions, 'limitMs' | 'clock' | 'signal'>,
  find: () => Promise<string | undefined>,
): Promise<string | undefined> {
  const endMs = clock.monotonicMs() + limitMs;
  for (;;) {
    const problem = await find();
    if (problem === undefined || clock.monotonicMs() >= endMs) return problem;
    await clock.delay(POLL_MS, signal);
  }
}

type Stop = () => Promise<unknown>;

function pendingStops({ api, namespace, deployments, jobs, cronJobs, labelSelector, signal }: StopWorkloadsOptions): Set<Stop> {
  const limits = { signal, limitMs: CALL_LIMIT_MS };
  const scale =
    (name: string): Stop =>
    () =>
      api.deployments.patch({ namespace, name }, { patch: { spec: { replicas: 0 } }, subresource: 'scale', ...limits });
  const suspend =
    (name: string): Stop =>
    () =>
      api.jobs.patch({ namespace, name }, { patch: { spec: { suspend: true } }, ...limits });
  const suspendCronJob =
    (name: string): Stop =>
    () =>
      api.cronJobs.patch({ namespace, name }, { patch: { spec: { suspend: true } }, ...limits });
  const suspendMade: Stop = async () => {
    const { items } = await api.jobs.list(namespace, { labelSelector, ...limits });
    for (const { metadata } of items) await suspend(metadata.name)();
  };
  // The order matters: a suspended CronJob creates no further Job.
  return new Set([
    ...deployments.map(scale),
    ...jobs.map(suspend),
    ...cronJobs.map(suspendCronJob),
    ...(cronJobs.length === 0 ? [] : [suspendMade]),
  ]);
}

/** Removes each of `stops` that succeeds, so that no workload is stopped twice. */
async function findProblem(options: StopWorkloadsOptions, stops: Set<Stop>): Promise<string | undefined> {
  const { api, namespace, labelSelector, signal } = options;
  let problem: string | undefined;
  for (const stop of stops) {
    const failure = await failureOf(stop(), signal);
    if (failure === undefined || isApiFailure(failure, 'NotFound')) stops.delete(stop);
    else problem = failure.message;
  }
  if (problem !== undefined) return problem;
  return podProblem(api.pods.list(namespace, { labelSelector, signal, limitMs: CALL_LIMIT_MS }), signal);
}

/** @returns which of the pods have not ended, or why that is not known */
export async function podProblem(list: Promise<{ items: readonly PodFacts[] }>, signal: AbortSignal): Promise<string | undefined> {
  let pods: readonly PodFacts[] = [];
  const listed = list.then(({ items }) => {
    pods = items.filter(isAlive);
  });
  const failure = await failureOf(listed, signal);
  if (failure !== undefined) return failure.message;
  return pods.length === 0 ? undefined : `still there: ${pods.map(({ metadata }) => metadata.name).join(', ')}`;
}

type PodFacts = Pick<PodObject, 'metadata'> & { status?: { phase?: string } };

/** @throws DiskliftError when `signal` is aborted; every other error that is no DiskliftError */
export async function failureOf(call: Promise<unknown>, signal: AbortSignal): Promise<DiskliftError | undefined> {
  try {
    await call;
    return undefined;
  } catch (error) {
    throwIfAborted(signal);
    if (error instanceof DiskliftError) return error;
    throw error;
  }
}

/** Ended pods of a Job stay in the API server. */
function isAlive({ status }: PodFacts): boolean {
  return status?.phase !== 'Succeeded' && status?.phase !== 'Failed';
}
