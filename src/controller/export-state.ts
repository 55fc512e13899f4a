/** The state of an export's worker, as its objects show it. Pure. */

import type { Observed, WorkerPod } from './observed.ts';

/** The kubelet reports a pod a moment after its process has begun; a status with the pod's UID shows it earlier. */
export function runningPods({ children, request }: Observed): WorkerPod[] {
  const { podUID } = request.status?.executor ?? {};
  return children.pods.filter(
    ({ phase, uid }) => phase === 'Running' || phase === 'Unknown' || (phase === 'Pending' && podUID !== undefined && uid === podUID),
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

export function isJob(job: Observed['children']['job'], type: 'Failed' | 'Complete'): boolean {
  return job?.status?.conditions?.some((each) => each.type === type && each.status === 'True') ?? false;
}

/** Whether a pod of the export is there, or may be made. */
export function hasPods({ children }: Observed): boolean {
  return children.job !== undefined || children.cleanupJob !== undefined || children.pods.length > 0;
}

export function hasObjects({ children }: Observed): boolean {
  const { job, cleanupJob, pods, vmSnapshot, snapshots, clones, configMap } = children;
  return (
    [job, cleanupJob, vmSnapshot, configMap].some((each) => each !== undefined) || pods.length > 0 || snapshots.size > 0 || clones.size > 0
  );
}
