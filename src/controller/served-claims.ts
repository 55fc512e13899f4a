/** Whether a pod of others, such as the chart's sidecar, serves an export. Pure. */

import type { FleetPodObject } from '../stores/kubernetes/client/fleet-objects.ts';

const JOB_NAME = 'batch.kubernetes.io/job-name';

/** @param pod that mounts the claim, and is no worker of the controller */
export function serves(pod: FleetPodObject, claimName: string, exportName: string): boolean {
  const phase = pod.status?.phase;
  if (phase === 'Succeeded' || phase === 'Failed' || pod.metadata.deletionTimestamp !== undefined) return false;
  const { containers, initContainers = [] } = pod.spec;
  return [...containers, ...initContainers].some((container) => {
    const { args = [], command = [], env = [] } = container;
    const words = [...command, ...args];
    if (!words.includes('sidecar')) return false;
    const volumes = [...valuesOf(words, '--volume'), ...(env.find(({ name }) => name === 'DISKLIFT_VOLUME')?.value ?? '').split(',')];
    if (!volumes.some((volume) => volume.startsWith(`${claimName}=`))) return false;
    const once = onceOf(words, env, pod);
    return once === '' || once === exportName;
  });
}

/** @returns the one export that the process runs; '' when it runs all of its claim */
function onceOf(words: readonly string[], env: readonly { name: string; value?: string }[], pod: FleetPodObject): string {
  const [flag] = valuesOf(words, '--once');
  if (flag !== undefined) return flag;
  const variable = env.find(({ name }) => name === 'DISKLIFT_ONCE');
  // The chart's CronJobs take the name of their Job.
  return variable === undefined ? '' : (variable.value ?? pod.metadata.labels?.[JOB_NAME] ?? '');
}

/** Values of a flag, as `--flag VALUE` and `--flag=VALUE`. */
function valuesOf(words: readonly string[], flag: string): string[] {
  return words.flatMap((word, index) => {
    if (word === flag) return words[index + 1] ?? [];
    return word.startsWith(`${flag}=`) ? word.slice(flag.length + 1) : [];
  });
}
