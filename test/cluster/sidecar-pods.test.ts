/**
 * The sidecar in real pods: the chart by the real helm, the Job and the native sidecar of manifests/, each with exports
 * that arrive.
 */

// Runs alone: its node uses namespaces, cgroups and devices of the machine, and has deadlines of its own.
// Shares a process: node

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { CHART, readManifests } from '../helpers/chart.ts';
import { IMAGE_NAME } from '../helpers/container-image.ts';
import type { Pod } from '../helpers/helm-pods.ts';
import { createKubeVirtDisk } from '../helpers/kubevirt-disk.ts';
import { attachLoopDevice, type LoopDevice } from '../helpers/loop-device.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import { until } from '../helpers/until.ts';
import { requireVersitygw, VERSITYGW_KEYS } from '../helpers/versitygw.ts';
import { boundClaim } from './node/claims.ts';
import { NODE_ADDRESS } from './node/configs.ts';
import { helm, valuesFlags } from './node/helm.ts';
import { createNamespace, type Namespace } from './node/namespace.ts';
import { BUCKET, type HttpReceiver, S3_PORT, startHttpReceiver, startS3Server, startTcpReceiver, TCP_PORT } from './node/receivers.ts';
import type { NodeCluster } from './node-cluster.ts';
import { useNodeCluster } from './use-node-cluster.ts';

function diskExport(name: string, destination: object, spec: object = {}): object {
  return {
    apiVersion: 'disklift.dev/v1alpha1',
    kind: 'DiskExport',
    metadata: { name },
    spec: { source: { persistentVolumeClaim: { claimName: 'fedora-root' } }, destination, ...spec },
  };
}

describe('the sidecar in real pods', function () {
  this.timeout(120_000);
  let cluster: NodeCluster;
  let namespace: Namespace;
  let receiver: HttpReceiver;
  let disk: string;
  let device: LoopDevice | undefined;

  before(async function () {
    requireVersitygw(this);
    cluster = await useNodeCluster(this);
    namespace = await createNamespace(cluster);
    receiver = await startHttpReceiver(cluster);
    const volume = path.join(cluster.directory, namespace.name);
    mkdirSync(volume);
    // Larger than the buffers of the sockets between.
    disk = await createKubeVirtDisk(volume, 20 * 1024 * 1024);
    device = await attachLoopDevice(disk);
    await namespace.apply([
      ...boundClaim({ namespace: namespace.name, name: 'fedora-root', path: volume }),
      ...boundClaim({ namespace: namespace.name, name: 'windows-root', path: device.path, mode: 'Block' }),
    ]);
    await helm(
      cluster,
      namespace,
      'install',
      'nightly',
      CHART,
      ...valuesFlags(cluster, { volumes: [{ name: 'fedora', claimName: 'fedora-root' }] }),
      '--wait',
    );
  });

  after(async () => {
    if (namespace) {
      await namespace.kubectl('delete', 'deployments,jobs,pods', '--all', '--timeout=90s');
      await namespace.kubectl('delete', 'diskexports', '--all', '--timeout=60s');
    }
    await device?.[Symbol.asyncDispose]();
  });

  /** The outcome of an export. If it does not end, the failure shows the pods' logs. */
  async function outcomeOf(name: string): Promise<string> {
    const wait = await namespace.attempt('wait', `diskexport/${name}`, '--for=condition=Finished', '--timeout=80s');
    const columns = 'jsonpath={.status.phase} {.status.message}';
    if (wait.code === 0) return namespace.kubectl('get', 'diskexport', name, '--output', columns);
    const shown = await Promise.all([
      namespace.kubectl('get', 'diskexports,pods', '--output', 'wide'),
      namespace.kubectl('logs', '--selector', 'app.kubernetes.io/name=disklift', '--all-containers', '--tail', '30'),
    ]);
    return assert.fail(`${name}: ${wait.stderr}\n${shown.join('\n')}`);
  }

  async function assertSucceeds(name: string): Promise<void> {
    assert.match(await outcomeOf(name), /^Succeeded/);
  }

  const toHttp = (name: string) => ({ http: { url: `${receiver.url}/${name}.qcow2` } });

  /** Waits until bytes are sent. @returns the pod that runs the export */
  async function executorOf(name: string): Promise<string> {
    await namespace.kubectl('wait', `diskexport/${name}`, '--for=jsonpath={.status.phase}=Streaming', '--timeout=60s');
    return namespace.kubectl('get', 'diskexport', name, '--output', 'jsonpath={.status.executor.podName}');
  }

  it('a Deployment exports over HTTP, and kubectl shows the result', async () => {
    await namespace.apply([diskExport('over-http', toHttp('over-http'))]);
    await assertSucceeds('over-http');
    await assertImageOf(receiver.fileOf('over-http.qcow2'), disk);
    assert.match(await namespace.kubectl('get', 'dx', 'over-http'), /Succeeded +Completed +100 +HTTP/);
    const shown = await namespace.kubectl('describe', 'diskexport', 'over-http');
    // Events of the same second have no order.
    for (const event of [/Normal +Claimed/, /Normal +Started/, /Normal +Succeeded/]) assert.match(shown, event);
    assert.match(await namespace.kubectl('logs', 'deployment/nightly-disklift-fedora'), /over-http/);
  });

  it('a Deployment refuses the API server and Services by name and by address, and has the addresses of its node', async () => {
    const places = {
      name: 'https://kubernetes.default.svc/',
      address: 'https://10.0.0.1/',
      search: 'https://kubernetes.default/',
      service: 'http://a.b.svc/',
    };
    await namespace.apply(Object.entries(places).map(([name, url]) => diskExport(`to-${name}`, { http: { url } })));
    for (const name of ['name', 'address', 'search']) assert.match(await outcomeOf(`to-${name}`), /^Failed .*: it is the API server;/);
    assert.match(await outcomeOf('to-service'), /^Failed .*: it lies in the cluster;/);
    const print = 'console.log(process.env.DISKLIFT_NODE_ADDRESSES, process.env.KUBERNETES_SERVICE_HOST)';
    const shown = await namespace.kubectl('exec', 'deployment/nightly-disklift-fedora', '--', '/nodejs/bin/node', '-e', print);
    assert.equal(shown.trim(), `${NODE_ADDRESS} 10.0.0.1`);
  });

  it('a Deployment exports to S3 with the keys of a Secret', async () => {
    const objectOf = await startS3Server(cluster);
    const { accessKeyId, secretAccessKey } = VERSITYGW_KEYS;
    await namespace.apply([
      {
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: { name: 'keys', labels: { 'disklift.dev/credentials': 'true' } },
        stringData: { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey },
      },
      diskExport('to-s3', {
        s3: {
          endpoint: `http://${NODE_ADDRESS}:${S3_PORT}`,
          region: 'us-east-1',
          bucket: BUCKET,
          key: '{claim}/{disk}.qcow2',
          credentialsSecretRef: { name: 'keys' },
          forcePathStyle: true,
        },
      }),
    ]);
    await assertSucceeds('to-s3');
    await assertImageOf(objectOf('fedora-root/disk.qcow2'), disk);
  });

  it('a Deployment exports to a TCP receiver', async () => {
    const received = await startTcpReceiver(cluster);
    await namespace.apply([diskExport('over-tcp', { tcp: { host: NODE_ADDRESS, port: TCP_PORT } })]);
    await assertSucceeds('over-tcp');
    await assertImageOf(await received(), disk);
  });

  it('a Deployment deletes an export whose TTL has passed', async () => {
    await namespace.apply([diskExport('short-lived', toHttp('short-lived'), { ttlSecondsAfterFinished: 1 })]);
    await namespace.kubectl('wait', 'diskexport/short-lived', '--for=delete', '--timeout=60s');
    await assertImageOf(receiver.fileOf('short-lived.qcow2'), disk);
  });

  it('a Deployment finishes an export of a killed container within five seconds of the restart, without waiting for its Lease to expire', async () => {
    receiver.hold();
    await namespace.apply([diskExport('killed', toHttp('killed'))]);
    const pod = await executorOf('killed');
    const id = await namespace.kubectl('get', 'pod', pod, '--output', 'jsonpath={.status.containerStatuses[0].containerID}');
    const ctr = ['--namespace', 'k8s.io', 'tasks', 'kill', '--signal', 'SIGKILL', id.replace('containerd://', '')];
    assert.equal((await cluster.run('ctr', ctr)).code, 0);
    const begins = () => receiver.bodies().filter(({ name, what }) => name === 'killed.qcow2' && what === 'begin');
    await until('the second upload begins', () => begins().length > 1);
    receiver.letGo();
    await assertSucceeds('killed');
    await assertImageOf(receiver.fileOf('killed.qcow2'), disk);
    const restarts = 'jsonpath={.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].state.running.startedAt}';
    const [count, startedAt = ''] = (await namespace.kubectl('get', 'pod', pod, '--output', restarts)).split(' ');
    assert.equal(count, '1');
    // The kubelet reports whole seconds.
    const tookMs = (begins()[1]?.atMs ?? assert.fail()) - Date.parse(startedAt);
    assert.ok(tookMs < 5000 + 1000, `${tookMs} ms`);
  });

  it('a Deployment finishes an export of a deleted pod in another pod', async () => {
    receiver.hold();
    await namespace.apply([diskExport('deleted', toHttp('deleted'))]);
    const pod = await executorOf('deleted');
    await namespace.kubectl('delete', 'pod', pod, '--timeout=20s');
    receiver.letGo();
    await assertSucceeds('deleted');
    await assertImageOf(receiver.fileOf('deleted.qcow2'), disk);
    assert.notEqual(await namespace.kubectl('get', 'diskexport', 'deleted', '--output', 'jsonpath={.status.executor.podName}'), pod);
  });

  it('a Job exports a block claim, finds its writers by the pods, and completes', async () => {
    const source = { persistentVolumeClaim: { claimName: 'windows-root' } };
    await namespace.apply([diskExport('windows-nightly', toHttp('windows'), { source })]);
    const volumes = [{ name: 'windows', claimName: 'windows-root', mode: 'Block', once: 'windows-nightly' }];
    const flags = valuesFlags(cluster, { volumes, serviceAccount: { create: false, name: 'nightly-disklift' }, rbac: { create: false } });
    await helm(cluster, namespace, 'install', 'windows', CHART, ...flags);
    await assertSucceeds('windows-nightly');
    await assertImageOf(receiver.fileOf('windows.qcow2'), disk);
    await namespace.kubectl('wait', 'job', '--selector', 'disklift.dev/volume=windows', '--for=condition=Complete', '--timeout=30s');
    await helm(cluster, namespace, 'uninstall', 'windows', '--wait');
  });

  it('a native sidecar exports beside a container of the user', async () => {
    const [pod] = readManifests('native-sidecar.yaml') as Pod[];
    const [sidecar, own] = [pod?.spec.initContainers?.[0], pod?.spec.containers[0]];
    if (pod === undefined || sidecar === undefined || own === undefined) return assert.fail();
    sidecar.image = IMAGE_NAME;
    // The receiver runs on the node itself.
    sidecar.env?.push({ name: 'DISKLIFT_ALLOW_DESTINATION', value: NODE_ADDRESS });
    const idle = "process.once('SIGTERM', () => process.exit()); setInterval(() => {}, 1 << 30);";
    Object.assign(own, { image: IMAGE_NAME, command: ['/nodejs/bin/node', '-e', idle] });
    await namespace.apply([...readManifests('rbac.yaml'), pod]);
    await namespace.kubectl('wait', '--for=condition=Ready', 'pod/native-sidecar', '--timeout=60s');
    await namespace.apply([diskExport('beside', toHttp('beside'))]);
    await assertSucceeds('beside');
    await assertImageOf(receiver.fileOf('beside.qcow2'), disk);
    await namespace.kubectl('delete', 'pod', 'native-sidecar', '--timeout=30s');
  });

  it('a Job fails with its export', async () => {
    // The Deployment would run the export otherwise.
    await namespace.kubectl('scale', 'deployment/nightly-disklift-fedora', '--replicas=0');
    await namespace.kubectl('wait', 'pods', '--selector', 'disklift.dev/volume=fedora', '--for=delete', '--timeout=30s');
    const tls = { caBundleRef: { configMap: 'kube-root-ca.crt', key: 'ca.crt' } };
    await namespace.apply([diskExport('nowhere', { http: { url: `https://${NODE_ADDRESS}:1/x`, tls } }, { backoffLimit: 1 })]);
    const flags = valuesFlags(cluster, { volumes: [{ name: 'once', claimName: 'fedora-root', once: 'nowhere' }] });
    await helm(cluster, namespace, 'install', 'once', CHART, ...flags);
    assert.match(await outcomeOf('nowhere'), /^Failed/);
    await namespace.kubectl('wait', 'job', '--selector', 'disklift.dev/volume=once', '--for=condition=Failed', '--timeout=30s');
    await helm(cluster, namespace, 'uninstall', 'once', '--wait');
  });
});
