/** Stops the Deployments and Jobs of a release, and waits until their pods have ended: while the pods' Role still holds. */

import { throwIfAborted } from '../../../common/abortable.ts';
import type { Clock } from '../../../common/clock.ts';
import { DiskliftError } from '../../../common/errors.ts';
import { isApiFailure } from '../client/api-failure.ts';
import type { PodObject, WorkloadApi } from '../client/contract.ts';

export interface StopWorkloadsOptions {
  api: WorkloadApi;
  namespace: string;
  /** Names; scaled to none. One that is not there is stopped. */
  deployments: readonly string[];
  /** Names; suspended. One that is not there, or has ended, is stopped. */
  jobs: readonly string[];
  /** Names; suspended, with the Jobs that they have made. */
  cronJobs: readonly string[];
  /** Selects all of their pods, and no other. */
  labelSelector: string;
  /** How long all of it may take; what hinders is tried again until then. */
  limitMs: number;
  clock: Clock;
  signal: AbortSignal;
}

const POLL_MS = 1000;
const CALL_LIMIT_MS = 5000;

/**
 * @returns undefined when no pod is left, else in one line why some may be
 * @throws DiskliftError when `signal` is aborted
 */
export async function stopWorkloads(options: StopWorkloadsOptions): Promise<string | undefined> {
  const { clock, signal, limitMs } = options;
  const endMs = clock.monotonicMs() + limitMs;
  const stops = pendingStops(options);
  for (;;) {
    const problem = await findProblem(options, stops);
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
  // In this order: a CronJob that is suspended makes no other Job.
  return new Set([
    ...deployments.map(scale),
    ...jobs.map(suspend),
    ...cronJobs.map(suspendCronJob),
    ...(cronJobs.length === 0 ? [] : [suspendMade]),
  ]);
}

/** Each of `stops` that succeeds is taken off, so that nothing is asked for twice. */
async function findProblem(options: StopWorkloadsOptions, stops: Set<Stop>): Promise<string | undefined> {
  const { api, namespace, labelSelector, signal } = options;
  let problem: string | undefined;
  for (const stop of stops) {
    const failure = await failureOf(stop(), signal);
    if (failure === undefined || isApiFailure(failure, 'NotFound')) stops.delete(stop);
    else problem = failure.message;
  }
  if (problem !== undefined) return problem;
  let pods: PodObject[] = [];
  const list = api.pods.list(namespace, { labelSelector, signal, limitMs: CALL_LIMIT_MS }).then(({ items }) => {
    pods = items.filter(isAlive);
  });
  const failure = await failureOf(list, signal);
  if (failure !== undefined) return failure.message;
  return pods.length === 0 ? undefined : `still there: ${pods.map(({ metadata }) => metadata.name).join(', ')}`;
}

async function failureOf(call: Promise<unknown>, signal: AbortSignal): Promise<DiskliftError | undefined> {
  try {
    await call;
    return undefined;
  } catch (error) {
    throwIfAborted(signal);
    if (error instanceof DiskliftError) return error;
    throw error;
  }
}

/** The pods of a Job stay when they have ended. */
function isAlive({ status }: PodObject): boolean {
  return status?.phase !== 'Succeeded' && status?.phase !== 'Failed';
}
