/**
 * The controller on a real API server with a real controller manager. The workers are real processes with the rights of
 * their pods; only scheduler and kubelet are played.
 */

import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { type HttpSink, startHttpSink } from '../helpers/http-sink.ts';
import { diskExport } from '../helpers/manifest.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { until } from '../helpers/until.ts';
import { type ApiServer, startApiServer } from './api-server.ts';
import { createNamespace, type Namespace } from './cluster-sidecar.ts';
import { startController, WORKER_ROLE } from './controller-in-process.ts';
import { installCrd } from './install-crd.ts';
import { requireBinaries } from './kubernetes-binaries.ts';
import { type PodRunner, startPodRunner } from './pod-runner.ts';

const MIB = 1024 * 1024;

describe('disklift controller', function () {
  this.timeout(90_000);
  const temp = useTempDir();
  let api: ApiServer;
  let namespace: Namespace;
  let runner: PodRunner;
  let sink: HttpSink;

  before(async function () {
    api = await startApiServer(requireBinaries(this), {
      controllerManager: true,
      controllerManagerFlags: ['--pvclaimbinder-sync-period=1s', '--controllers=*,-attachdetach,-nodelifecycle'],
    });
    await installCrd(api);
    await apply('/apis/rbac.authorization.k8s.io/v1/clusterroles', {
      metadata: { name: WORKER_ROLE },
      rules: [
        { apiGroups: ['disklift.dev'], resources: ['diskexports'], verbs: ['get', 'list', 'watch', 'patch', 'delete'] },
        { apiGroups: ['disklift.dev'], resources: ['diskexports/status'], verbs: ['patch'] },
        { apiGroups: ['coordination.k8s.io'], resources: ['leases'], verbs: ['get', 'create', 'update', 'delete'] },
        { apiGroups: [''], resources: ['events'], verbs: ['create', 'patch'] },
        { apiGroups: [''], resources: ['namespaces', 'secrets', 'configmaps'], verbs: ['get'] },
        { apiGroups: [''], resources: ['pods'], verbs: ['list'] },
      ],
    });
  });

  after(() => api?.stop());

  beforeEach(async () => {
    namespace = await createNamespace(api);
    runner = startPodRunner(api, { flags: ['--allow-destination', '127.0.0.1'] });
    sink = await startHttpSink();
  });

  afterEach(async () => {
    await runner[Symbol.asyncDispose]();
    await sink[Symbol.asyncDispose]();
  });

  async function apply(place: string, body: object): Promise<void> {
    const answer = await api.request(place, { method: 'POST', body });
    assert.ok(answer.status === 201, `${place}: ${JSON.stringify(answer.body)}`);
  }

  /** A claim whose volume is a directory with disk.img. */
  async function claimWithDisk(name: string): Promise<string> {
    const volume = temp(name);
    await mkdir(volume);
    await createDisk(`${volume}/disk.img`, 16 * MIB, [{ offsetBytes: MIB, lengthBytes: 5 * MIB, content: 'random' }]);
    const capacity = { storage: '1Gi' };
    await apply('/api/v1/persistentvolumes', {
      metadata: { name: `${namespace.name}-${name}` },
      spec: {
        capacity,
        accessModes: ['ReadWriteOnce'],
        storageClassName: '',
        hostPath: { path: volume },
        persistentVolumeReclaimPolicy: 'Retain',
        claimRef: { namespace: namespace.name, name },
      },
    });
    await apply(`/api/v1/namespaces/${namespace.name}/persistentvolumeclaims`, {
      metadata: { name },
      spec: {
        accessModes: ['ReadWriteOnce'],
        storageClassName: '',
        volumeName: `${namespace.name}-${name}`,
        resources: { requests: capacity },
      },
    });
    return `${volume}/disk.img`;
  }

  /** Names of everything that the controller may make. */
  async function leftovers(): Promise<string[]> {
    const names: string[] = [];
    for (const place of [
      '/apis/batch/v1/jobs',
      '/api/v1/pods',
      '/api/v1/configmaps',
      '/api/v1/serviceaccounts',
      '/apis/rbac.authorization.k8s.io/v1/rolebindings',
      '/apis/coordination.k8s.io/v1/leases',
    ]) {
      const { body } = await api.request(place.replace(/\/(\w+)$/, `/namespaces/${namespace.name}/$1`));
      for (const { metadata } of body.items)
        if (!['default', 'kube-root-ca.crt'].includes(metadata.name)) names.push(`${place.split('/').at(-1)}/${metadata.name}`);
    }
    return names;
  }

  it('exports a claim that nobody has prepared, and leaves nothing behind', async () => {
    await using controller = startController(api, { namespaces: [namespace.name] });
    const disk = await claimWithDisk('claim');
    await namespace.apply(diskExport('first', { http: { url: `${sink.url}/{claim}/{disk}.qcow2` } }));
    const status = await namespace.finished('first');
    assert.equal(status.phase, 'Succeeded', `${status.message} ${JSON.stringify(controller.warnings)}`);
    assert.equal(status.consistency, 'Offline');
    await writeFile(temp('arrived.qcow2'), sink.complete.get('/claim/disk.qcow2') ?? assert.fail('nothing has arrived'));
    await assertImageOf(temp('arrived.qcow2'), disk);
    await until('nothing is left', async () => (await leftovers()).length === 0);
    console.log(
      controller.requests.filter(({ verb }) => verb !== 'watch' && verb !== 'list'),
      controller.warnings,
    );
  });
});
