/** The API server that the tests start: its controllers, kubectl with it, and its complete removal. */

import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type ApiServer, startApiServer } from './api-server.ts';
import { installCrd } from './install-crd.ts';
import { requireBinaries, usesExistingCluster } from './kubernetes-binaries.ts';

describe('the API server of the tests', function () {
  this.timeout(90_000);
  let api: ApiServer;

  before(async function () {
    api = await startApiServer(requireBinaries(this), { controllerManager: true });
    await installCrd(api);
  });

  after(() => api?.stop());

  async function kubectl(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await api.kubectl(...args);
    assert.equal(code, 0, stderr);
    return stdout.toString();
  }

  it('empties a namespace that is deleted, and deletes the objects that a deleted object owns', async () => {
    await kubectl('create', 'namespace', 'vms');
    await kubectl('--namespace', 'vms', 'create', 'configmap', 'owner');
    const uid = await kubectl('--namespace', 'vms', 'get', 'configmap', 'owner', '--output', 'jsonpath={.metadata.uid}');
    const lease = {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: { name: 'owned', ownerReferences: [{ apiVersion: 'v1', kind: 'ConfigMap', name: 'owner', uid }] },
    };
    const leases = '/apis/coordination.k8s.io/v1/namespaces/vms/leases';
    assert.equal((await api.request(leases, { method: 'POST', body: lease })).status, 201);
    await kubectl('--namespace', 'vms', 'delete', 'configmap', 'owner');
    while ((await api.request(`${leases}/owned`)).status !== 404) await delay(100);
    await kubectl('delete', 'namespace', 'vms', '--timeout=60s');
  });

  it('explains the resource to kubectl, under its short name', async () => {
    assert.match(await kubectl('explain', 'dx.spec.destination.s3'), /FIELDS:\n.*bucket/s);
  });

  it('leaves no process and no directory behind', async function () {
    if (usesExistingCluster()) return this.skip();
    const other = await startApiServer(requireBinaries(this), { controllerManager: true });
    const directory = path.dirname(other.kubeconfig);
    assert.equal(path.dirname(directory), os.tmpdir());
    await other.stop();
    assert.ok(!existsSync(directory));
    const commands = readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map(commandOf);
    assert.deepEqual(
      commands.filter((command) => command.includes(directory)),
      [],
    );
  });
});

function commandOf(pid: string): string {
  try {
    return readFileSync(path.join('/proc', pid, 'cmdline'), 'utf8');
  } catch {
    // It has ended since.
    return '';
  }
}
