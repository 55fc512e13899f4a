/** What `disklift stop-sidecars` does. */

import { packageVersion } from '../../config/package-version.ts';
import { createWorkloadApi } from '../../stores/kubernetes/client/kube-api.ts';
import { stopWorkloads } from '../../stores/kubernetes/store/stop-workloads.ts';
import type { CommandContext } from '../../wiring/context.ts';
import { openApiAccess } from '../../wiring/open-api-access.ts';

export interface StopFlags {
  namespace: string;
  selector: string;
  deployment: string[];
  job: string[];
  cronjob: string[];
  kubeconfig?: string;
}

/** More than a pod gets to end; the chart's activeDeadlineSeconds is longer. */
const LIMIT_MS = 45_000;

/**
 * Pods that stay are warned of and no failure: Helm would not go on, and nobody could uninstall a release whose node is lost.
 * @throws DiskliftError `InvalidRequest` when there is no API server, or `Cancelled`
 */
export async function stopPods(
  { namespace, selector, deployment, job, cronjob, kubeconfig }: StopFlags,
  context: CommandContext,
): Promise<void> {
  const { clock, signal, warn } = context;
  const access = await openApiAccess(kubeconfig, context);
  const api = createWorkloadApi({ access, clock, userAgent: `disklift/${packageVersion()}` });
  const what = { api, namespace, deployments: deployment, jobs: job, cronJobs: cronjob, labelSelector: selector };
  try {
    const problem = await stopWorkloads({ ...what, limitMs: LIMIT_MS, clock, signal });
    if (problem !== undefined) warn(`not all pods have ended, and DiskExports may keep the finalizer disklift.dev/cleanup: ${problem}`);
  } finally {
    await access.close();
  }
}
