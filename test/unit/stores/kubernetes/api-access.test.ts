import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { HttpMethod, RequestContext } from '@kubernetes/client-node';
import { type ApiAccess, createApiAccess } from '../../../../src/stores/kubernetes/client/api-access.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';

describe('createApiAccess', () => {
  const temp = useTempDir();

  function write(cluster: Record<string, unknown>, user: Record<string, unknown> = {}): string {
    const config = {
      'current-context': 'here',
      contexts: [{ name: 'here', context: { cluster: 'c', user: 'u', namespace: 'vms' } }],
      clusters: [{ name: 'c', cluster }],
      users: [{ name: 'u', user }],
    };
    writeFileSync(temp('kubeconfig'), JSON.stringify(config));
    return temp('kubeconfig');
  }

  async function authenticated(access: ApiAccess): Promise<RequestContext> {
    const request = new RequestContext('https://api.example/api', HttpMethod.GET);
    await access.authenticate(request);
    return request;
  }

  it('takes server, user and namespace from the file', async () => {
    const access = createApiAccess({ kubeconfig: write({ server: 'https://api.example/' }, { token: 'abc' }) });
    assert.equal(access.server, 'https://api.example');
    assert.equal(access.namespace, 'vms');
    assert.equal((await authenticated(access)).getHeaders().Authorization, 'Bearer abc');
  });

  it('has all requests share their connections until the certificates change', async () => {
    const file = temp('ca.pem');
    writeFileSync(file, 'one');
    const access = createApiAccess({ kubeconfig: write({ server: 'https://api.example', 'certificate-authority': file }) });
    const first = (await authenticated(access)).getDispatcher();
    assert.ok(first !== undefined);
    assert.equal((await authenticated(access)).getDispatcher(), first);
    writeFileSync(file, 'two');
    assert.notEqual((await authenticated(access)).getDispatcher(), first);
  });

  it('opens new connections after reconnect', async () => {
    const access = createApiAccess({ kubeconfig: write({ server: 'https://api.example' }) });
    const first = (await authenticated(access)).getDispatcher();
    assert.ok(first !== undefined);
    access.reconnect();
    assert.notEqual((await authenticated(access)).getDispatcher(), first);
  });

  it('refuses what leads to no API server', () => {
    const refusal = (message: RegExp) => ({ code: 'InvalidRequest', message });
    assert.throws(() => createApiAccess({ kubeconfig: temp('absent') }), refusal(/^\S*absent cannot be read: ENOENT/));
    assert.throws(() => createApiAccess({ kubeconfig: write({ server: 'http://api.example' }) }), refusal(/has no https/));
    writeFileSync(temp('empty'), '{}');
    assert.throws(() => createApiAccess({ kubeconfig: temp('empty') }), refusal(/names no API server/));
  });
});
