/**
 * An existing cluster, which KUBECONFIG or ~/.kube/config names. The tests use it when USE_EXISTING_CLUSTER is true.
 */

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { runCommand } from '../helpers/run-command.ts';
import { type ApiAccess, sendApiRequest } from './api-request.ts';
import type { ApiServer } from './api-server.ts';

interface View {
  clusters: [{ cluster: { server: string; 'certificate-authority-data'?: string } }];
  users: [{ user: { token?: string; tokenFile?: string; 'client-certificate-data'?: string; 'client-key-data'?: string } }];
}

/** Only kubectl and helm support users by plugins (exec, OIDC). */
export async function existingCluster(): Promise<ApiServer> {
  const view = await runCommand('kubectl', ['config', 'view', '--raw', '--minify', '--flatten', '--output', 'json']);
  assert.equal(view.code, 0, `no cluster that exists: ${view.stderr}`);
  const [{ cluster }, { user }] = ((config: View) => [config.clusters[0], config.users[0]] as const)(JSON.parse(view.stdout.toString()));
  const decoded = (base64: string | undefined) => (base64 === undefined ? undefined : Buffer.from(base64, 'base64').toString());
  const access: ApiAccess = {
    ca: decoded(cluster['certificate-authority-data']),
    token: user.token ?? (user.tokenFile === undefined ? undefined : readFileSync(user.tokenFile, 'utf8').trim()),
    cert: decoded(user['client-certificate-data']),
    key: decoded(user['client-key-data']),
  };
  const directory = mkdtempSync(path.join(os.tmpdir(), 'disklift-cluster-'));
  const kubeconfig = path.join(directory, 'kubeconfig');
  writeFileSync(kubeconfig, view.stdout, { mode: 0o600 });
  return {
    url: cluster.server,
    token: access.token ?? '',
    ca: access.ca ?? '',
    kubeconfig,
    request: (apiPath, options = {}) => sendApiRequest(new URL(apiPath, cluster.server), { ...access, ...options }),
    kubectl: (...args) => runCommand('kubectl', args, { env: { KUBECONFIG: kubeconfig } }),
    stop: async () => rmSync(directory, { recursive: true, force: true }),
  };
}
