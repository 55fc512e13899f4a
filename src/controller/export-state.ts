/** The state of an export's worker, as its objects show it. Pure. */

import type { Observed, WorkerPod } from './observed.ts';

/**
 * Pods that run. A lost pod does not count: its worker is dead, or does nothing irreversible without its Lease.
 * The kubelet reports a pod a moment after its process has begun; a status with the
 * pod's UID shows it earlier.
 */
export function runningPods({ children, request }: Observed): WorkerPod[] {
  const { podUID } = request.status?.executor ?? {};
  return children.pods.filter(
    ({ phase, uid, isLost }) =>
      !isLost && (phase === 'Running' || phase === 'Unknown' || (phase === 'Pending' && podUID !== undefined && uid === podUID)),
  );
}

/** Whether a worker may own the status. A pod that has claimed the export may be missing in the cache of pods. */
export function mayRun(observed: Observed): boolean {
  const { children, request } = observed;
  const isUnseen = children.pods.length === 0 && (children.job?.status?.active ?? 0) > 0 && request.status?.executor !== undefined;
  return isUnseen || runningPods(observed).length > 0;
}

/** Pods that run or may still begin to. */
export function livePods({ children }: Observed): WorkerPod[] {
  return children.pods.filter(({ phase }) => phase !== 'Succeeded' && phase !== 'Failed');
}

/** Whether all pods that have not ended are lost, and there is one. Their Job and the claims that they use stay too. */
export function areLost(observed: Observed): boolean {
  const live = livePods(observed);
  return live.length > 0 && live.every(({ isLost }) => isLost);
}

export function isJob(job: Observed['children']['job'], type: 'Failed' | 'Complete'): boolean {
  return job?.status?.conditions?.some((each) => each.type === type && each.status === 'True') ?? false;
}

/** Whether a pod of the export is there, or may be made. A lost pod does not count. */
export function hasPods(observed: Observed): boolean {
  const { job, cleanupJob, pods } = observed.children;
  return cleanupJob !== undefined || (!areLost(observed) && (job !== undefined || pods.length > 0));
}

export function hasObjects({ children }: Observed): boolean {
  const { job, cleanupJob, pods, vmSnapshot, snapshots, clones, configMap } = children;
  return (
    [job, cleanupJob, vmSnapshot, configMap].some((each) => each !== undefined) || pods.length > 0 || snapshots.size > 0 || clones.size > 0
  );
}
