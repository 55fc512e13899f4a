/**
 * Plays virt-api and, behind it, virt-handler and the guest agent: freezes and thaws a guest that does not exist. The
 * API server passes the calls of the real virt-controller to it. Any other call is answered with 404 and recorded.
 */

import assert from 'node:assert/strict';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import { readAll } from '../helpers/run-command.ts';
import { createTestAuthority } from '../helpers/test-authority.ts';
import { until } from '../helpers/until.ts';
import type { KubeVirt } from './kubevirt-cluster.ts';

const GROUP = 'subresources.kubevirt.io';
const CALL = /^\/apis\/subresources\.kubevirt\.io\/v1\/namespaces\/([^/]+)\/virtualmachineinstances\/([^/]+)\/(freeze|unfreeze)$/;

export interface PlayedVirtApi extends AsyncDisposable {
  /** Each call, with the count of VolumeSnapshots in the namespace at its time. */
  calls: { action: string; namespace: string; unfreezeTimeout?: string; existing: number }[];
  unknownCalls: string[];
  /** Errors of the guest agent. Each answers one call of its action. */
  failures: { action: 'freeze' | 'unfreeze'; message: string }[];
  /** Guests that write, by their namespace. */
  guests: Map<string, Guest>;
}

export interface Guest {
  freeze(): Promise<void>;
  /** A guest that is not frozen continues. */
  unfreeze(): void;
}

export async function playVirtApi({ send, patch, api, directory }: KubeVirt): Promise<PlayedVirtApi> {
  const authority = await createTestAuthority(directory);
  const { certificate: cert, key } = await authority.issue('virt-api', 'DNS:virt-api.kubevirt.svc');
  const played: Omit<PlayedVirtApi, keyof AsyncDisposable> = { calls: [], unknownCalls: [], failures: [], guests: new Map() };

  async function answer(method: string | undefined, url: string, body: Buffer): Promise<[status: number, body?: object]> {
    if (method === 'GET' && url === `/apis/${GROUP}/v1`)
      return [200, { kind: 'APIResourceList', apiVersion: 'v1', groupVersion: `${GROUP}/v1`, resources: [] }];
    const [, namespace = '', name, action] = CALL.exec(url) ?? [];
    if (method !== 'PUT' || action === undefined) {
      // The API server asks for the documentation of every API by itself.
      if (!/^\/(openapi|apis$)/.test(url)) played.unknownCalls.push(`${method} ${url}`);
      return [404, { kind: 'Status', apiVersion: 'v1', status: 'Failure', code: 404, reason: 'NotFound' }];
    }
    const { items } = await send('GET', `/apis/snapshot.storage.k8s.io/v1/namespaces/${namespace}/volumesnapshots`);
    const { unfreezeTimeout } = action === 'freeze' ? JSON.parse(body.toString()) : {};
    played.calls.push({ action, namespace, existing: items.length, ...(unfreezeTimeout && { unfreezeTimeout }) });
    const index = played.failures.findIndex((failure) => failure.action === action);
    if (index >= 0) {
      const [failure] = played.failures.splice(index, 1);
      return [500, { kind: 'Status', apiVersion: 'v1', status: 'Failure', code: 500, message: failure?.message }];
    }
    const guest = played.guests.get(namespace);
    if (action === 'freeze') await guest?.freeze();
    else guest?.unfreeze();
    // virt-handler reports it so.
    const place = `/apis/kubevirt.io/v1/namespaces/${namespace}/virtualmachineinstances/${name}`;
    await patch(place, { status: { fsFreezeStatus: action === 'freeze' ? 'frozen' : null } });
    return [202];
  }

  const server = https.createServer({ cert, key }, async (request, response) => {
    const [status, body] = await answer(request.method, new URL(request.url ?? '', 'https://virt-api').pathname, await readAll(request));
    response.writeHead(status, { 'content-type': 'application/json' }).end(body && JSON.stringify(body));
  });
  server.listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as AddressInfo;

  await send('POST', '/api/v1/namespaces/kubevirt/services', {
    metadata: { name: 'virt-api' },
    spec: { type: 'ExternalName', externalName: 'localhost', ports: [{ port, protocol: 'TCP' }] },
  });
  await send('POST', '/apis/apiregistration.k8s.io/v1/apiservices', {
    metadata: { name: `v1.${GROUP}` },
    spec: {
      group: GROUP,
      version: 'v1',
      service: { namespace: 'kubevirt', name: 'virt-api', port },
      caBundle: Buffer.from(authority.ca).toString('base64'),
      groupPriorityMinimum: 1000,
      versionPriority: 15,
    },
  });
  await until('the API server passes calls to virt-api', async () => (await api.request(`/apis/${GROUP}/v1`)).status === 200);
  assert.deepEqual(played.unknownCalls, []);
  return {
    ...played,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
