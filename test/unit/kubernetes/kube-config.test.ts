import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { HttpMethod, RequestContext } from '@kubernetes/client-node';
import { loadKubeConfig } from '../../../src/kubernetes/kube-config.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';

describe('loadKubeConfig', () => {
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

  async function authenticated(config: ReturnType<typeof loadKubeConfig>): Promise<RequestContext> {
    const request = new RequestContext('https://api.example/api', HttpMethod.GET);
    await config.applySecurityAuthentication(request);
    return request;
  }

  it('takes server, user and namespace from the file', async () => {
    const config = loadKubeConfig({ kubeconfig: write({ server: 'https://api.example' }, { token: 'abc' }) });
    assert.equal(config.getCurrentCluster()?.server, 'https://api.example');
    assert.equal(config.getContextObject('here')?.namespace, 'vms');
    assert.equal((await authenticated(config)).getHeaders().Authorization, 'Bearer abc');
  });

  it('has all requests share their connections until the certificates change', async () => {
    const file = temp('ca.pem');
    writeFileSync(file, 'one');
    const config = loadKubeConfig({ kubeconfig: write({ server: 'https://api.example', 'certificate-authority': file }) });
    const first = (await authenticated(config)).getDispatcher();
    assert.ok(first !== undefined);
    assert.equal((await authenticated(config)).getDispatcher(), first);
    writeFileSync(file, 'two');
    assert.notEqual((await authenticated(config)).getDispatcher(), first);
  });

  it('refuses what leads to no API server', () => {
    const refusal = (message: RegExp) => ({ code: 'InvalidRequest', message });
    assert.throws(() => loadKubeConfig({ kubeconfig: temp('absent') }), refusal(/^\S*absent cannot be read: ENOENT/));
    assert.throws(() => loadKubeConfig({ kubeconfig: write({ server: 'http://api.example' }) }), refusal(/not reached by https/));
    writeFileSync(temp('empty'), '{}');
    assert.throws(() => loadKubeConfig({ kubeconfig: temp('empty') }), refusal(/names no API server/));
  });
});
