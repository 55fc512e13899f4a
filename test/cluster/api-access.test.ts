/** The user that a kubeconfig or a pod's ServiceAccount gives, as a real API server sees it. */

// Shares a process: API server

import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fetch } from 'undici';
import { parse, stringify } from 'yaml';
import { systemClock } from '../../src/common/clock.ts';
import type { ApiAccess } from '../../src/stores/kubernetes/client/api-access.ts';
import { createInClusterAccess } from '../../src/stores/kubernetes/client/in-cluster-access.ts';
import { createKubeconfigAccess } from '../../src/stores/kubernetes/client/kubeconfig-access.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import type { ApiServer } from './api-server.ts';
import { usesExistingCluster } from './kubernetes-binaries.ts';
import { useApiServer } from './use-api-server.ts';

interface UserInfo {
  username: string;
  uid?: string;
  groups?: string[];
  extra?: Record<string, string[]>;
}

describe('the user of a kubeconfig or a ServiceAccount', function () {
  this.timeout(90_000);
  const temp = useTempDir();
  let server: ApiServer;

  before(async function () {
    // The cases need a token of an administrator.
    if (usesExistingCluster()) this.skip();
    server = await useApiServer(this);
  });
  /** @returns the path of the server's kubeconfig with another user */
  function withUser(user: object, file = 'kubeconfig'): string {
    const config = parse(readFileSync(server.kubeconfig, 'utf8'));
    config.users[0].user = user;
    writeFileSync(temp(file), stringify(config));
    return temp(file);
  }

  const seenBy = (kubeconfigs: readonly string[]) => seenWith(createKubeconfigAccess({ defaultKubeconfigs: kubeconfigs }));

  async function seenWith(access: ApiAccess): Promise<UserInfo> {
    try {
      const { headers, dispatcher } = await access.authenticate();
      const answer = await fetch(`${access.server}/apis/authentication.k8s.io/v1/selfsubjectreviews`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json', ...headers },
        body: JSON.stringify({ apiVersion: 'authentication.k8s.io/v1', kind: 'SelfSubjectReview' }),
        dispatcher,
      });
      const text = await answer.text();
      assert.equal(answer.status, 201, text);
      return JSON.parse(text).status.userInfo;
    } finally {
      await access.close();
    }
  }

  it('can have the token in a file beside the kubeconfig, with a line end', async () => {
    writeFileSync(temp('token'), `${server.token}\n`);
    assert.equal((await seenBy([withUser({ tokenFile: 'token' })])).username, 'admin');
  });

  it('impersonates with groups, uid and extra fields', async () => {
    const user = {
      token: server.token,
      as: 'jane',
      'as-uid': '42',
      'as-groups': ['ops', 'night, shift'],
      'as-user-extra': { 'example.org/scopes': ['read', 'write'] },
    };
    const { username, uid, groups, extra } = await seenBy([withUser(user)]);
    assert.deepEqual([username, uid], ['jane', '42']);
    assert.deepEqual(groups, ['ops', 'night, shift', 'system:authenticated']);
    assert.deepEqual(extra, { 'example.org/scopes': ['read', 'write'] });
  });

  it('can come from a credential plugin whose command is relative to the kubeconfig', async () => {
    mkdirSync(temp('bin'));
    const status = { token: server.token };
    writeFileSync(
      temp('bin/login'),
      `#!/bin/sh\necho '${JSON.stringify({ apiVersion: 'client.authentication.k8s.io/v1', kind: 'ExecCredential', status })}'\n`,
    );
    chmodSync(temp('bin/login'), 0o755);
    const exec = { apiVersion: 'client.authentication.k8s.io/v1', command: './bin/login', interactiveMode: 'Never', env: null };
    assert.equal((await seenBy([withUser({ exec })])).username, 'admin');
  });

  it('comes from the first of two kubeconfigs, as in kubectl', async () => {
    const first = withUser({ token: server.token }, 'first');
    const second = withUser({ token: 'nobody' }, 'second');
    assert.equal((await seenBy([first, second])).username, 'admin');
  });

  it('is the ServiceAccount whose files a pod has', async () => {
    const { code, stdout, stderr } = await server.kubectl('create', 'serviceaccount', 'pod', '--namespace', 'default');
    assert.equal(code, 0, `${stdout}${stderr}`);
    const token = await server.kubectl('create', 'token', 'pod', '--namespace', 'default');
    assert.equal(token.code, 0, token.stderr);
    writeFileSync(temp('token'), token.stdout);
    writeFileSync(temp('ca.crt'), server.ca);
    const { hostname, port } = new URL(server.url);
    const access = createInClusterAccess({ host: hostname, port, clock: systemClock, directory: path.dirname(temp('token')) });
    assert.equal((await seenWith(access)).username, 'system:serviceaccount:default:pod');
  });
});
