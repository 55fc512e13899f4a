/** The API server that the user names, or that the process has by default. */

import { readAhead, type StorageWait } from '../common/await-storage.ts';
import { apiServerEnvironment, defaultKubeconfigs } from '../config/environment.ts';
import type { ApiAccess } from '../stores/kubernetes/client/api-access.ts';
import { createInClusterAccess, hasServiceAccount } from '../stores/kubernetes/client/in-cluster-access.ts';

/**
 * By default: the ServiceAccount of the pod, or else the default kubeconfigs.
 * @throws DiskliftError `InvalidRequest` when no API server is configured, or the configuration cannot be read in time;
 * `Cancelled`
 */
export async function openApiAccess(kubeconfig: string | undefined, wait: StorageWait): Promise<ApiAccess> {
  const { clock } = wait;
  if (kubeconfig === undefined && hasServiceAccount()) return createInClusterAccess({ ...apiServerEnvironment(), clock });
  const candidates = kubeconfig === undefined ? defaultKubeconfigs() : [kubeconfig];
  const files = await readAhead(candidates, wait);
  // client-node takes half a second of CPU time to load, and a pod needs none of it.
  const { createKubeconfigAccess } = await import('../stores/kubernetes/client/kubeconfig-access.ts');
  return createKubeconfigAccess({ kubeconfig, defaultKubeconfigs: candidates.filter(files.isThere), readText: files.text, clock });
}
