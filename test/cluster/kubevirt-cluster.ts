/**
 * KubeVirt without a node: its definitions and its virt-controller are real, on an API server and a controller manager
 * of its own. virt-operator, which would install them, is left out.
 */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { freePort } from '../helpers/free-port.ts';
import { until } from '../helpers/until.ts';
import { type ApiServer, startApiServer } from './api-server.ts';
import { requireBinaries, usesExistingCluster } from './kubernetes-binaries.ts';
import { snapshotCrdFiles } from './operator-crds.ts';
import { endProgram, type Program, startProgram } from './program.ts';

const SCRIPT = path.join(import.meta.dirname, '..', 'tools', 'kubevirt.sh');
const NAMESPACE = 'kubevirt';
const MAX_START_MS = 60_000;

/** KubeVirt's API with the two gates that exports of VMs depend on. */
const INSTALLATION = {
  apiVersion: 'kubevirt.io/v1',
  kind: 'KubeVirt',
  metadata: { name: 'kubevirt', namespace: NAMESPACE },
  spec: { configuration: { developerConfiguration: { featureGates: ['Snapshot', 'VMExport'] } } },
};

export interface KubeVirt extends AsyncDisposable {
  api: ApiServer;
  /** For files of the tests; removed at the end. The log of virt-controller is there. */
  directory: string;
  /** @returns the body. Fails for any answer but success. */
  send(method: 'GET' | 'POST' | 'PUT' | 'DELETE', apiPath: string, body?: object): ReturnType<typeof bodyOf>;
  /** A merge patch. */
  patch(apiPath: string, body: object): ReturnType<typeof bodyOf>;
}

/**
 * Skips the suite where KubeVirt is not built. Call it in `before`.
 * @param flags of kube-controller-manager
 */
export async function startKubeVirt(context: Mocha.Context, flags: readonly string[] = []): Promise<KubeVirt> {
  const binaries = requireBinaries(context);
  const files = snapshotCrdFiles();
  const folder = kubevirtFolder();
  if (folder === undefined || files === undefined || usesExistingCluster()) {
    console.error('    SKIPPED: the tests with KubeVirt, for the reason above');
    return context.skip();
  }
  const api = await startApiServer(binaries, {
    controllerManager: true,
    controllerManagerFlags: ['--pvclaimbinder-sync-period=1s', ...flags],
  });
  const directory = mkdtempSync(path.join(os.tmpdir(), 'disklift-kubevirt-'));
  const stop = async () => {
    await api.stop();
    rmSync(directory, { recursive: true, force: true });
  };
  const send: KubeVirt['send'] = (method, apiPath, body) => bodyOf(api, apiPath, { method, body });
  const patch: KubeVirt['patch'] = (apiPath, body) =>
    bodyOf(api, apiPath, { method: 'PATCH', body, contentType: 'application/merge-patch+json' });
  try {
    const named = files.flatMap((file) => ['--filename', file]);
    const applied = await api.kubectl('apply', '--server-side', ...named);
    assert.equal(applied.code, 0, applied.stderr);
    for (const definition of JSON.parse(readFileSync(path.join(folder, 'definitions.json'), 'utf8')))
      await send('POST', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions', definition);
    const ready = await api.kubectl('wait', '--for=condition=Established', '--timeout=30s', 'crd', '--all');
    assert.equal(ready.code, 0, ready.stderr);
    await send('POST', '/api/v1/namespaces', { metadata: { name: NAMESPACE } });
    const place = `/apis/kubevirt.io/v1/namespaces/${NAMESPACE}/kubevirts`;
    await send('POST', place, INSTALLATION);
    // virt-operator would write it, and virt-controller waits for it.
    await patch(`${place}/kubevirt/status`, { status: { phase: 'Deployed' } });
    const controller = await startController(folder, directory, api);
    await until('virt-controller leads', () => isLeading(api), MAX_START_MS);
    return {
      api,
      directory,
      send,
      patch,
      async [Symbol.asyncDispose]() {
        await endProgram(controller);
        await stop();
      },
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

function kubevirtFolder(): string | undefined {
  const { status, stdout } = spawnSync(SCRIPT, ['--existing'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
  assert.equal(status, 0, 'KubeVirt is there; make setup builds it');
  return stdout.trim() || undefined;
}

async function startController(folder: string, directory: string, api: ApiServer): Promise<Program> {
  const log = openSync(path.join(directory, 'virt-controller.log'), 'w');
  const environment = [`POD_NAMESPACE=${NAMESPACE}`, 'NODE_NAME=n1', 'HOSTNAME=virt-controller-1'];
  return startProgram(
    '/usr/bin/env',
    [
      ...environment,
      path.join(folder, 'virt-controller'),
      ...['--kubeconfig', api.kubeconfig, '--launcher-image', 'launcher', '--exporter-image', 'exporter'],
      ...['--port', String(await freePort()), '-v', '3'],
    ],
    log,
  );
}

async function isLeading(api: ApiServer): Promise<boolean> {
  const { body } = await api.request(`/apis/coordination.k8s.io/v1/namespaces/${NAMESPACE}/leases`);
  return body.items?.some(({ spec }: { spec: { holderIdentity?: string } }) => spec.holderIdentity !== undefined) ?? false;
}

async function bodyOf(api: ApiServer, apiPath: string, options: Parameters<ApiServer['request']>[1]) {
  const { status, body } = await api.request(apiPath, options);
  assert.ok(status >= 200 && status < 300, `${options?.method} ${apiPath}: ${status} ${JSON.stringify(body)}`);
  return body;
}
