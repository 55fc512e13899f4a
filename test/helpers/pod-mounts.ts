/** Gives a process of this machine the files of a pod's ServiceAccount, in a mount namespace of its own. */

import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';

export interface PodAccount {
  /** URL of the API server. */
  url: string;
  ca: string;
  token: string;
  namespace: string;
}

export interface PodLaunch {
  /** Words before the command. */
  launcher: readonly string[];
  env: Record<string, string>;
}

const MOUNT = 'mount -t tmpfs tmpfs /run && mkdir -p "$0" && cp "$1"/* "$0" && shift && exec "$@"';
const PLACE = '/run/secrets/kubernetes.io/serviceaccount';

/** Requires root. @param directory that is removed after the process has ended */
export function podLaunch(directory: string, { url, ca, token, namespace }: PodAccount): PodLaunch {
  const files = path.join(directory, 'account');
  mkdirSync(files, { mode: 0o700 });
  for (const [name, text] of Object.entries({ 'ca.crt': ca, token, namespace })) writeFileSync(path.join(files, name), text);
  const { hostname, port } = new URL(url);
  return {
    launcher: ['unshare', '--mount', 'sh', '-c', MOUNT, PLACE, files],
    env: { KUBERNETES_SERVICE_HOST: hostname, KUBERNETES_SERVICE_PORT: port },
  };
}
