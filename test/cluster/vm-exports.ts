/**
 * Exports of a VM `db01` to a real S3 server, on a cluster with the real virt-controller, provisioner and snapshotter.
 * The controller and its workers have the rights that the chart gives them. Scheduler, kubelet, guest and virt-api are
 * played.
 */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DiskExportStatus } from '../../src/resource/disk-export.ts';
import { requireLoopDevices } from '../helpers/loop-device.ts';
import { diskExport } from '../helpers/manifest.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { until } from '../helpers/until.ts';
import { requireVersitygw, startVersitygw, VERSITYGW_KEYS, type Versitygw } from '../helpers/versitygw.ts';
import { type ApiStorage, startApiStorage } from './api-storage.ts';
import { applyChartAccount } from './chart-account.ts';
import { createNamespace, type Namespace } from './cluster-sidecar.ts';
import { type ControllerInProcess, startController } from './controller-in-process.ts';
import { EXPORT_KINDS } from './export-scenes.ts';
import { installCrd } from './install-crd.ts';
import { type KubeVirt, startKubeVirt } from './kubevirt-cluster.ts';
import { type KubeVirtVm, kubeVirtVm } from './kubevirt-vm.ts';
import { SNAPSHOT_CLASSES, STORAGE_CLASSES } from './node/storage.ts';
import { type PlayedGuest, playGuest } from './played-guest.ts';
import { type PlayedVirtApi, playVirtApi } from './played-virt-api.ts';
import { type PodRunner, startPodRunner, type Volume } from './pod-runner.ts';

const NODE = 'node-1';
const BUCKET = 'backups';
const MIB = 1024 * 1024;
const LIMIT_MS = 90_000;

/** The objects that stay as they are would need these controllers only with a kubelet. */
const CONTROLLERS = '--controllers=*,-node-lifecycle-controller,-persistentvolume-attach-detach-controller';

export interface VmCluster extends AsyncDisposable {
  kubevirt: KubeVirt;
  virtApi: PlayedVirtApi;
  storage: ApiStorage;
  s3: Versitygw;
  /** Kubeconfig of the controller's account. */
  controllerConfig: string;
}

/** Skips the suite where a program is missing. Call it in `before`. */
export async function startVmCluster(context: Mocha.Context): Promise<VmCluster> {
  requireVersitygw(context);
  await requireLoopDevices(context);
  const kubevirt = await startKubeVirt(context, [CONTROLLERS]);
  const stack = new AsyncDisposableStack();
  stack.use(kubevirt);
  try {
    const { api, directory } = kubevirt;
    await installCrd(api);
    const storage = stack.use(await startApiStorage(api, NODE));
    const virtApi = stack.use(await playVirtApi(kubevirt));
    mkdirSync(path.join(directory, 's3'));
    const s3 = stack.use(await startVersitygw(path.join(directory, 's3'), BUCKET));
    await kubevirt.send('POST', '/api/v1/namespaces', { metadata: { name: 'disklift' } });
    const account = await applyChartAccount(api, 'disklift', { controller: { enabled: true } }, { of: 'controller' });
    const whole = stack.move();
    return {
      ...{ kubevirt, virtApi, storage, s3 },
      controllerConfig: account.kubeconfig,
      [Symbol.asyncDispose]: () => whole.disposeAsync(),
    };
  } finally {
    await stack.disposeAsync();
  }
}

interface ExportOptions {
  /** Fields of source.virtualMachine beside the name. */
  vm?: object;
  /** Fields of the source beside virtualMachine. */
  source?: object;
  /** Fields of the spec beside source and destination. */
  spec?: object;
  annotations?: Record<string, string>;
}

/** The VM of one test, in a namespace of its own. */
export interface VmScene extends AsyncDisposable {
  namespace: Namespace;
  vm: KubeVirtVm;
  guest: PlayedGuest;
  controller: ControllerInProcess;
  runner: PodRunner;
  /** disk.img of the volume `root`, on a mounted claim. */
  root: string;
  /** The disk of the volume `data`, on a Block claim. */
  data: string;
  export(name: string, options?: ExportOptions): Promise<void>;
  /** Waits with kubectl, as a user does. */
  finished(name: string): Promise<DiskExportStatus>;
  /** Path of what has arrived at that key of the bucket, in the folder of the namespace. */
  arrived(key: string): string;
  assertArrived(key: string, disk: string): Promise<void>;
  events(name: string): Promise<{ type: string; reason: string; message: string }[]>;
  /** Everything of the namespace and of storage that an export could leave. */
  objects(): Promise<string[]>;
  /** Waits until no other objects are there than before the first export. */
  assertNothingLeft(): Promise<void>;
  /** The guest shuts down, as virt-handler reports it. */
  stopGuest(): Promise<void>;
  /** Calls to freeze and unfreeze the guest, without repetitions. */
  freezes(): string[];
}

const DATA = { name: 'data', dataVolume: { name: 'db01-data' } };
const TOOLS = { name: 'tools', containerDisk: { image: 'registry.example/tools' } };

export interface SceneOptions {
  cluster: VmCluster;
  /** For files of the test. */
  directory: string;
  /** Running: with a guest that writes. */
  state: 'Halted' | 'Running';
  hasAgent?: boolean;
}

export async function startVmScene({ cluster, directory, state, hasAgent = true }: SceneOptions): Promise<VmScene> {
  const { kubevirt, virtApi, storage, s3 } = cluster;
  const { api } = kubevirt;
  const namespace = await createNamespace(api);
  const vm = kubeVirtVm(kubevirt, namespace.name);
  await namespace.secret('keys', { AWS_ACCESS_KEY_ID: VERSITYGW_KEYS.accessKeyId, AWS_SECRET_ACCESS_KEY: VERSITYGW_KEYS.secretAccessKey });
  const [root, data] = await Promise.all([claim('db01-root', 'Filesystem'), claim('db01-data', 'Block')]);
  const volumes = [DATA, TOOLS];
  const agent = hasAgent ? [{ type: 'AgentConnected', status: 'True' }] : [];
  if (state === 'Running') await vm.createRunningVm(agent, 'RerunOnFailure', volumes);
  else {
    await vm.createVm('Halted', volumes);
    await vm.eventually('Stopped', async () => (await vm.vmOf()).status?.printableStatus === 'Stopped');
  }
  const guest = playGuest(state === 'Running' ? [root, data] : [], directory);
  virtApi.guests.set(namespace.name, guest);
  const devices: string[] = [];
  const runner = startPodRunner(api, { flags: ['--allow-destination', '127.0.0.1'], nodeName: NODE, pathOf });
  const controller = startController(api, { namespaces: [namespace.name], kubeconfig: cluster.controllerConfig });
  let before = await objects();

  async function claim(name: string, volumeMode: 'Filesystem' | 'Block'): Promise<string> {
    const place = `/api/v1/namespaces/${namespace.name}/persistentvolumeclaims`;
    await kubevirt.send('POST', place, {
      metadata: { name, labels: { 'example.com/tier': 'gold' } },
      spec: {
        accessModes: ['ReadWriteOnce'],
        storageClassName: STORAGE_CLASSES.immediate,
        volumeMode,
        resources: { requests: { storage: '16Mi' } },
      },
    });
    let volumeName: string | undefined;
    await until(`${name} is bound`, async () => {
      const { spec, status } = await kubevirt.send('GET', `${place}/${name}`);
      volumeName = spec.volumeName;
      return status.phase === 'Bound';
    });
    const folder = storage.pathOf(await kubevirt.send('GET', `/api/v1/persistentvolumes/${volumeName}`));
    const disk = volumeMode === 'Block' ? folder : path.join(folder, 'disk.img');
    return createDisk(disk, 16 * MIB, [{ offsetBytes: 8 * MIB, lengthBytes: 2 * MIB, content: 'random' }]);
  }

  /** The kubelet's CSI driver shows a Block volume as a device. */
  function pathOf(volume: Volume): string {
    const place = storage.pathOf(volume);
    if (volume.spec.volumeMode !== 'Block') return place;
    const { status, stdout, stderr } = spawnSync('losetup', ['--find', '--show', '--read-only', place], { encoding: 'utf8' });
    assert.equal(status, 0, stderr);
    devices.push(stdout.trim());
    return stdout.trim();
  }

  async function objects(): Promise<string[]> {
    const found = await Promise.all(
      KINDS.map(async ([group, plural]) => {
        const { items } = await kubevirt.send('GET', `${group}/namespaces/${namespace.name}/${plural}`);
        return items.map(({ metadata }: { metadata: { name: string } }) => `${plural} ${metadata.name}`);
      }),
    );
    const { items } = await kubevirt.send('GET', '/apis/snapshot.storage.k8s.io/v1/volumesnapshotcontents');
    const contents = items.map(({ metadata }: { metadata: { name: string } }) => `content ${metadata.name}`);
    return [...found.flat(), ...contents, ...storage.contents().map((each) => `storage ${each}`)].sort();
  }

  const arrived = (key: string) => s3.objectPath(BUCKET, `${namespace.name}/${key}`);

  return {
    ...{ namespace, vm, guest, controller, runner, root, data, arrived, objects },
    async export(name, { vm: fields = {}, source = {}, spec = {}, annotations = {} } = {}) {
      const key = '{namespace}/{vm}/{scheduledTime}/{disk}.qcow2';
      const target = { endpoint: s3.url, bucket: BUCKET, key, forcePathStyle: true, credentialsSecretRef: { name: 'keys' } };
      const virtualMachine = { name: 'db01', ...fields };
      const manifest = diskExport(name, { s3: target }, { source: { virtualMachine, ...source }, ...spec });
      const body = { ...manifest, metadata: { ...manifest.metadata, namespace: namespace.name, annotations } };
      const { status, body: answer, warnings } = await namespace.request('diskexports?fieldValidation=Strict', { method: 'POST', body });
      assert.deepEqual([status, warnings], [201, []], JSON.stringify(answer));
    },
    async finished(name) {
      const flags = ['--namespace', namespace.name, '--for=condition=Finished', `--timeout=${LIMIT_MS / 1000}s`];
      const { code, stderr } = await api.kubectl('wait', `diskexport/${name}`, ...flags);
      const object = await namespace.get(name);
      assert.equal(code, 0, `${stderr} ${JSON.stringify(object?.status)} ${controller.warnings.join('\n')}`);
      return object?.status as DiskExportStatus;
    },
    async assertArrived(key, disk) {
      assert.ok(existsSync(arrived(key)), `${key} has arrived`);
      await assertImageOf(arrived(key), disk);
    },
    async events(name) {
      const { body } = await namespace.request(`events?fieldSelector=involvedObject.name=${name}`);
      return body.items;
    },
    async assertNothingLeft() {
      let now: string[] = [];
      for (const endMs = performance.now() + LIMIT_MS; performance.now() < endMs; await sleep(100)) {
        now = await objects();
        if (JSON.stringify(now) === JSON.stringify(before)) return;
      }
      assert.deepEqual(now, before);
    },
    async stopGuest() {
      await guest[Symbol.asyncDispose]();
      await kubevirt.patch(`${vm.place('virtualmachineinstances')}/db01`, { status: { phase: 'Succeeded' } });
      await until('the pod of the guest is gone', async () => {
        const { items } = await kubevirt.send('GET', `/api/v1/namespaces/${namespace.name}/pods?labelSelector=kubevirt.io=virt-launcher`);
        return items.length === 0;
      });
      before = before.filter((each) => !each.startsWith('pods virt-launcher-'));
    },
    freezes: () =>
      virtApi.calls
        .filter((call) => call.namespace === namespace.name)
        .map(({ action }) => action)
        .filter((action, index, all) => action !== all[index - 1]),
    async [Symbol.asyncDispose]() {
      await controller[Symbol.asyncDispose]();
      await runner[Symbol.asyncDispose]();
      for (const device of devices) assert.equal(spawnSync('losetup', ['--detach', device]).status, 0);
      virtApi.guests.delete(namespace.name);
      await guest[Symbol.asyncDispose]();
    },
  };
}

/** The same with the kinds that KubeVirt may leave. */
const KINDS = [
  ...EXPORT_KINDS,
  ['/apis/apps/v1', 'controllerrevisions'],
  ['/apis/snapshot.kubevirt.io/v1beta1', 'virtualmachinesnapshots'],
  ['/apis/snapshot.kubevirt.io/v1beta1', 'virtualmachinesnapshotcontents'],
] as const;

/** The class that KubeVirt takes: the one of the driver that has the annotation, whose value KubeVirt does not read. */
export async function setDefaultSnapshotClass({ patch }: KubeVirt, chosen: keyof typeof SNAPSHOT_CLASSES): Promise<void> {
  for (const [key, name] of Object.entries(SNAPSHOT_CLASSES)) {
    const annotations = { 'snapshot.storage.kubernetes.io/is-default-class': key === chosen ? 'true' : null };
    await patch(`/apis/snapshot.storage.k8s.io/v1/volumesnapshotclasses/${name}`, { metadata: { annotations } });
  }
}

export function textOf(file: string): string {
  return readFileSync(file, 'utf8');
}
