import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { createKubeconfigAccess } from '../../../../src/stores/kubernetes/client/kubeconfig-access.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';

describe('createKubeconfigAccess', () => {
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

  it('takes server, user and namespace from the file', async () => {
    const access = createKubeconfigAccess({ kubeconfig: write({ server: 'https://api.example/' }, { token: 'abc' }) });
    assert.equal(access.server, 'https://api.example');
    assert.equal(access.namespace, 'vms');
    assert.equal((await access.authenticate()).headers.Authorization, 'Bearer abc');
  });

  it('has all requests share their connections until the certificates change', async () => {
    const file = temp('ca.pem');
    writeFileSync(file, 'one');
    const access = createKubeconfigAccess({ kubeconfig: write({ server: 'https://api.example', 'certificate-authority': file }) });
    const first = (await access.authenticate()).dispatcher;
    assert.ok(first !== undefined);
    assert.equal((await access.authenticate()).dispatcher, first);
    writeFileSync(file, 'two');
    assert.notEqual((await access.authenticate()).dispatcher, first);
  });

  it('opens new connections after reconnect', async () => {
    const access = createKubeconfigAccess({ kubeconfig: write({ server: 'https://api.example' }) });
    const first = (await access.authenticate()).dispatcher;
    assert.ok(first !== undefined);
    access.reconnect();
    assert.notEqual((await access.authenticate()).dispatcher, first);
  });

  it('refuses what leads to no API server', () => {
    const refusal = (message: RegExp) => ({ code: 'InvalidRequest', message });
    assert.throws(() => createKubeconfigAccess({ kubeconfig: temp('absent') }), refusal(/^\S*absent cannot be read: ENOENT/));
    assert.throws(() => createKubeconfigAccess({ kubeconfig: write({ server: 'http://api.example' }) }), refusal(/has no https/));
    writeFileSync(temp('empty'), '{}');
    assert.throws(() => createKubeconfigAccess({ kubeconfig: temp('empty') }), refusal(/names no API server/));
  });
});
