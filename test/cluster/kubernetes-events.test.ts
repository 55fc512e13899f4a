/** Events that kubectl shows, and Secrets and ConfigMaps that kubectl makes, on a real API server. */

// Shares a process: API server

import assert from 'node:assert/strict';
import { systemClock } from '../../src/common/clock.ts';
import type { ApiAccess } from '../../src/stores/kubernetes/client/api-access.ts';
import type { KubeApi, Unsaved } from '../../src/stores/kubernetes/client/contract.ts';
import { createKubeApi } from '../../src/stores/kubernetes/client/kube-api.ts';
import { createKubeconfigAccess } from '../../src/stores/kubernetes/client/kubeconfig-access.ts';
import type { ExportObject } from '../../src/stores/kubernetes/client/objects.ts';
import { createEventPoster } from '../../src/stores/kubernetes/store/kubernetes-events.ts';
import { createReferenceResolver } from '../../src/stores/kubernetes/store/resolve-reference.ts';
import { changed } from '../fixtures/request-table.ts';
import type { ApiServer } from './api-server.ts';
import { installCrd } from './install-crd.ts';
import { useApiServer } from './use-api-server.ts';

describe('beside a DiskExport on an API server', function () {
  this.timeout(90_000);
  let server: ApiServer;
  let access: ApiAccess;
  let api: KubeApi;

  before(async function () {
    server = await useApiServer(this);
    await installCrd(server);
    access = createKubeconfigAccess({ kubeconfig: server.kubeconfig });
    api = createKubeApi({ access, clock: systemClock, userAgent: 'disklift/test' });
  });

  after(async () => {
    await access?.close();
  });

  it('kubectl shows its events and the count of each', async () => {
    const request = changed({ 'metadata.name': 'told', 'metadata.namespace': 'default' });
    const object = await api.exports.create(request as Unsaved<ExportObject>);
    const warnings: string[] = [];
    const poster = createEventPoster({
      events: api.events,
      clock: systemClock,
      instance: 'sidecar-0',
      warn: (text) => warnings.push(text),
    });
    for (const attempt of [1, 2, 3])
      await poster.post(object, { type: 'Warning', reason: 'Retrying', message: `disk.img: attempt ${attempt} failed` });
    await poster.post(object, { type: 'Normal', reason: 'Succeeded', message: 'every disk has arrived' });
    assert.deepEqual(warnings, []);
    const { stdout, stderr } = await server.kubectl('events', '--for', 'diskexport/told', '--no-headers');
    assert.equal(stderr, '');
    const lines = stdout.toString().trim().split('\n');
    assert.equal(lines.length, 2, lines.join('\n'));
    assert.ok(
      lines.some((line) => /\(x3 over .*\) +Warning +Retrying +DiskExport\/told +disk\.img: attempt 3 failed/.test(line)),
      lines.join('\n'),
    );
    assert.ok(
      lines.some((line) => /Normal +Succeeded +DiskExport\/told +every disk has arrived/.test(line)),
      lines.join('\n'),
    );
    const described = (await server.kubectl('describe', 'diskexport', 'told')).stdout.toString();
    assert.match(described, /Events:.*Retrying.*disklift/s);
  });

  it('a Secret and a ConfigMap made by kubectl can be read', async () => {
    const create = async (...args: string[]) => assert.equal((await server.kubectl('create', ...args)).code, 0);
    await create('secret', 'generic', 'store', '--from-literal=accessKeyId=me');
    await create('configmap', 'authorities', '--from-literal=ca.crt=PEM');
    const resolve = createReferenceResolver({
      api,
      namespace: 'default',
      clock: systemClock,
      random: Math.random,
      signal: new AbortController().signal,
    });
    const secret = await resolve({ kind: 'Secret', namespace: 'default', name: 'store' });
    assert.deepEqual(secret, { labels: {}, annotations: {}, data: { accessKeyId: Buffer.from('me') } });
    const configMap = await resolve({ kind: 'ConfigMap', namespace: 'default', name: 'authorities' });
    assert.equal(String(configMap?.data['ca.crt']), 'PEM');
    assert.equal(await resolve({ kind: 'Secret', namespace: 'default', name: 'absent' }), undefined);
  });
});
