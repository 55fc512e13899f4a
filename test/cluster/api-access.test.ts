/** The user that a kubeconfig configures, as a real API server sees it. */

// Shares a process: API server

import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { HttpMethod, IsomorphicFetchHttpLibrary, RequestContext } from '@kubernetes/client-node';
import { parse, stringify } from 'yaml';
import { createApiAccess } from '../../src/stores/kubernetes/client/api-access.ts';
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

describe('the user of a kubeconfig', function () {
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

  async function seenBy(kubeconfigs: readonly string[]): Promise<UserInfo> {
    const access = createApiAccess({ defaultKubeconfigs: kubeconfigs });
    try {
      const request = new RequestContext(`${access.server}/apis/authentication.k8s.io/v1/selfsubjectreviews`, HttpMethod.POST);
      request.setHeaderParam('Content-Type', 'application/json');
      request.setBody(JSON.stringify({ apiVersion: 'authentication.k8s.io/v1', kind: 'SelfSubjectReview' }));
      await access.authenticate(request);
      const answer = await new IsomorphicFetchHttpLibrary().send(request).toPromise();
      const text = await answer.body.text();
      assert.equal(answer.httpStatusCode, 201, text);
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
});
