/** The kubeconfigs that kubectl reads when none is named. */

import os from 'node:os';
import path from 'node:path';

/** @returns the files of KUBECONFIG, or else ~/.kube/config; kubectl skips those that are missing */
export function defaultKubeconfigs(environment: Readonly<Record<string, string | undefined>> = process.env): string[] {
  const named = (environment.KUBECONFIG ?? '').split(path.delimiter).filter((file) => file !== '');
  return named.length > 0 ? named : [path.join(environment.HOME ?? os.homedir(), '.kube', 'config')];
}
