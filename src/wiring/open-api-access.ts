/** The API server that the user names, or that the process has by default. */

import { readAhead, type StorageWait } from '../common/await-storage.ts';
import { defaultKubeconfigs } from '../config/environment.ts';
import { type ApiAccess, createApiAccess } from '../stores/kubernetes/client/api-access.ts';

/**
 * @throws DiskliftError `InvalidRequest` when no API server is configured, or the configuration cannot be read in time;
 * `Cancelled`
 */
export async function openApiAccess(kubeconfig: string | undefined, wait: StorageWait): Promise<ApiAccess> {
  const candidates = kubeconfig === undefined ? defaultKubeconfigs() : [kubeconfig];
  const files = await readAhead(candidates, wait);
  return createApiAccess({
    kubeconfig,
    defaultKubeconfigs: candidates.filter(files.isThere),
    readText: files.text,
    clock: wait.clock,
  });
}
