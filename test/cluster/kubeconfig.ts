/** Kubeconfig files for programs. */

import { writeFileSync } from 'node:fs';

export interface KubeconfigAccess {
  url: string;
  /** PEM. */
  ca: string;
  token: string;
}

/** Writes JSON, because YAML is a superset of it. */
export function writeKubeconfig(file: string, { url, ca, token }: KubeconfigAccess): void {
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'test', cluster: { server: url, 'certificate-authority-data': Buffer.from(ca).toString('base64') } }],
    users: [{ name: 'test', user: { token } }],
    contexts: [{ name: 'test', context: { cluster: 'test', user: 'test' } }],
    'current-context': 'test',
  };
  writeFileSync(file, `${JSON.stringify(config, undefined, 2)}\n`, { mode: 0o600 });
}
