/** `disklift stop-sidecars`: the chart runs it before a release is uninstalled. */

import type { Command } from 'commander';
import { packageVersion } from '../../config/environment.ts';
import type { CommandContext } from '../../wiring/context.ts';
import { endInTime } from '../end.ts';
import { collect } from '../options.ts';

interface StopFlags {
  namespace: string;
  selector: string;
  deployment: string[];
  job: string[];
  cronjob: string[];
  kubeconfig?: string;
}

export function addStopSidecarsCommand(program: Command, context: CommandContext): void {
  program
    .command('stop-sidecars', { hidden: true })
    .description('stop the pods of a release while their Role holds, and wait until they have ended; the chart uses it')
    .requiredOption('--namespace <name>', 'where they are')
    .requiredOption('--selector <labels>', 'selects their pods, as kubectl takes it')
    .option('--deployment <name>', 'to be scaled to none; repeatable', collect, [])
    .option('--job <name>', 'to be suspended; repeatable', collect, [])
    .option('--cronjob <name>', 'to be suspended, with the Jobs that it has made; repeatable', collect, [])
    .option('--kubeconfig <file>', "where the API server is; the pod's ServiceAccount, when left out")
    .action((flags: StopFlags) => endInTime(context, () => stopPods(flags, context)));
}

/** Longer than the grace period of a pod; the chart's activeDeadlineSeconds is longer still. */
const LIMIT_MS = 45_000;

/**
 * Warns about pods that do not end. A failure would stop Helm, and a release on a lost node could not be uninstalled.
 * @throws DiskliftError `InvalidRequest` when there is no API server, or `Cancelled`
 */
async function stopPods({ namespace, selector, deployment, job, cronjob, kubeconfig }: StopFlags, context: CommandContext): Promise<void> {
  const [{ openApiAccess }, { createWorkloadApi }, { stopWorkloads }] = await Promise.all([
    import('../../wiring/open-api-access.ts'),
    import('../../stores/kubernetes/client/kube-api.ts'),
    import('../../stores/kubernetes/store/stop-workloads.ts'),
  ]);
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
