/**
 * `helm uninstall` of real pods while an upload to S3 is open: no object stays, no deletion is blocked, and the upload
 * can be resumed.
 */

// Runs alone: its node uses namespaces, cgroups and devices of the machine, and has deadlines of its own.
// Shares a process: node

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DiskExport } from '../../src/resource/disk-export.ts';
import { CHART } from '../helpers/chart.ts';
import { createKubeVirtDisk } from '../helpers/kubevirt-disk.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import { requireVersitygw, VERSITYGW_KEYS } from '../helpers/versitygw.ts';
import { boundClaim } from './node/claims.ts';
import { NODE_ADDRESS } from './node/configs.ts';
import { helm, valuesFlags } from './node/helm.ts';
import { createNamespace, type Namespace } from './node/namespace.ts';
import { BUCKET, type Relay, startRelay, startS3Server } from './node/receivers.ts';
import type { NodeCluster } from './node-cluster.ts';
import { useNodeCluster } from './use-node-cluster.ts';

const SERVER_PORT = 7071;
const RELAY_PORT = 7072;
const LIMIT_MS = 60_000;
const KINDS = 'deployments,jobs,pods,roles,rolebindings,serviceaccounts';
/** Labels of what a release has, and of what its controller makes. */
const SELECTORS = ['app.kubernetes.io/name=disklift', 'app.kubernetes.io/managed-by=disklift-controller'];

describe('a release that is uninstalled while an upload is open', function () {
  this.timeout(180_000);
  let cluster: NodeCluster;
  let namespace: Namespace;
  let relay: Relay;
  let objectOf: (key: string) => string;
  let disk: string;

  before(async function () {
    requireVersitygw(this);
    cluster = await useNodeCluster(this);
    namespace = await createNamespace(cluster);
    objectOf = await startS3Server(cluster, SERVER_PORT);
    relay = await startRelay(cluster, { port: RELAY_PORT, serverPort: SERVER_PORT });
    const volume = path.join(cluster.directory, namespace.name);
    mkdirSync(volume);
    disk = await createKubeVirtDisk(volume, 20 * 1024 * 1024);
    const { accessKeyId, secretAccessKey } = VERSITYGW_KEYS;
    await namespace.apply([
      ...boundClaim({ namespace: namespace.name, name: 'fedora-root', path: volume }),
      {
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: { name: 'keys', labels: { 'disklift.dev/credentials': 'true' } },
        stringData: { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey },
      },
    ]);
  });

  afterEach(async () => {
    relay?.letGo();
    if (namespace === undefined) return;
    await namespace.kubectl('delete', 'deployments,jobs,pods', '--all', '--timeout=60s');
    // An export that stays would block the other tests.
    for (const name of (await namespace.kubectl('get', 'diskexports', '--output', 'name')).split('\n').filter(Boolean))
      await namespace.kubectl('patch', name, '--type', 'merge', '--patch', '{"metadata": {"finalizers": null}}');
    await namespace.kubectl('delete', 'diskexports', '--all', '--timeout=20s');
  });

  async function get(name: string): Promise<DiskExport> {
    return JSON.parse(await namespace.kubectl('get', 'diskexport', name, '--output', 'json'));
  }

  const install = (...volumes: object[]) => helm(cluster, namespace, 'install', 'nightly', CHART, ...valuesFlags(cluster, { volumes }));

  async function beginUpload(name: string): Promise<void> {
    relay.hold();
    const s3 = {
      endpoint: `http://${NODE_ADDRESS}:${RELAY_PORT}`,
      region: 'us-east-1',
      bucket: BUCKET,
      key: '{name}.qcow2',
      credentialsSecretRef: { name: 'keys' },
      forcePathStyle: true,
      partSize: '5Mi',
      concurrency: 1,
    };
    const spec = { source: { persistentVolumeClaim: { claimName: 'fedora-root' } }, destination: { s3 } };
    await namespace.apply([{ apiVersion: 'disklift.dev/v1alpha1', kind: 'DiskExport', metadata: { name }, spec }]);
    for (const endMs = performance.now() + 60_000; !relay.isReached(); await sleep(100))
      assert.ok(performance.now() < endMs, JSON.stringify((await get(name)).status));
    assert.deepEqual((await get(name)).metadata.finalizers, ['disklift.dev/cleanup']);
  }

  /** Uninstalls, and asserts the promised time from the command to the removal of the last object. */
  async function uninstall(): Promise<void> {
    const endMs = performance.now() + LIMIT_MS;
    const told = await helm(cluster, namespace, 'uninstall', 'nightly');
    assert.doesNotMatch(told, /warning/);
    for (;;) {
      const found = await Promise.all(SELECTORS.map((each) => namespace.kubectl('get', KINDS, '--selector', each, '--output', 'name')));
      const left = found.join('');
      if (left === '') return;
      assert.ok(performance.now() < endMs, left);
      await sleep(200);
    }
  }

  it('is removed, and the next release continues the upload', async () => {
    const volume = { name: 'fedora', claimName: 'fedora-root' };
    await install(volume);
    await beginUpload('slow');
    await uninstall();
    const { metadata, status } = await get('slow');
    assert.equal(metadata.finalizers, undefined);
    const [sent] = status?.disks ?? [];
    assert.ok(sent?.upload?.id, JSON.stringify(status));
    const passedBytes = relay.passedBytes();
    relay.letGo();
    await install(volume);
    await namespace.kubectl('wait', 'diskexport/slow', '--for=condition=Succeeded', '--timeout=80s');
    await assertImageOf(objectOf('slow.qcow2'), disk);
    assert.ok(relay.passedBytes() - passedBytes < (sent.imageBytes ?? 0), 'the part that had arrived is not sent again');
    await helm(cluster, namespace, 'uninstall', 'nightly');
  });

  it('is removed with its Job, and the export can be deleted although the destination does not answer', async () => {
    await install({ name: 'fedora', claimName: 'fedora-root', once: 'dead' });
    await beginUpload('dead');
    await uninstall();
    assert.equal((await get('dead')).metadata.finalizers, undefined);
    await namespace.kubectl('delete', 'diskexport', 'dead', '--timeout=5s');
  });

  it('is removed with its controller and the worker, and the next controller continues the upload', async () => {
    const flags = valuesFlags(cluster, { controller: { enabled: true, replicas: 1 } });
    await helm(cluster, namespace, 'install', 'nightly', CHART, ...flags, '--wait');
    await beginUpload('fleet');
    const pods = await namespace.kubectl('get', 'pods', '--selector', SELECTORS[1] ?? '', '--output', 'name');
    assert.match(pods, /^pod\/disklift-\S+\n?$/, 'a worker sends');
    await uninstall();
    const { metadata, status } = await get('fleet');
    assert.equal(metadata.finalizers, undefined);
    assert.ok(status?.disks?.[0]?.upload?.id, JSON.stringify(status));
    const passedBytes = relay.passedBytes();
    relay.letGo();
    await helm(cluster, namespace, 'install', 'nightly', CHART, ...flags);
    await namespace.kubectl('wait', 'diskexport/fleet', '--for=condition=Succeeded', '--timeout=80s');
    await assertImageOf(objectOf('fleet.qcow2'), disk);
    assert.ok(relay.passedBytes() - passedBytes < (status.disks[0].imageBytes ?? 0), 'the part that had arrived is not sent again');
    await uninstall();
  });
});
