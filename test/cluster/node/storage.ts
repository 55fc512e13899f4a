/**
 * Storage on a node as clusters have it: csi-provisioner, snapshot-controller and csi-snapshotter, in front of a CSI
 * driver of the tests (test/cluster/binaries/csi/driver). A snapshot shows one moment, because the driver's files lie
 * on a file system that shares blocks.
 */

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { runCommand } from '../../helpers/run-command.ts';
import { kubernetesBinaries } from '../kubernetes-binaries.ts';
import type { NodeCluster } from '../node-cluster.ts';
import { snapshotCrdFiles } from '../operator-crds.ts';
import { NODE_NAME } from './configs.ts';
import { startOnNode } from './receivers.ts';

export const DRIVER = 'csi.test.disklift.dev';
/** Label of the nodes whose volumes lie on one disk. */
export const TOPOLOGY_KEY = `topology.${DRIVER}/node`;
const PROGRAMS = ['csi-driver', 'csi-provisioner', 'csi-snapshotter', 'snapshot-controller'] as const;

/** The driver's folder on the node: `volumes` and `snapshots`, each object with `data` or `disk.img`. */
const ROOT = '/mnt/csi';
/** The sockets of a driver and of its registration must not be in one directory, which the kubelet watches. */
const SOCKET = '/run/csi.sock';
const REGISTRATION = `/var/lib/kubelet/plugins_registry/${DRIVER}-reg.sock`;
const FILE_SYSTEM_BYTES = 16 * 1024 ** 3;

/** Classes of claims, of both volume modes. A fault is for claims that are restored from a snapshot. */
export const STORAGE_CLASSES = {
  immediate: 'csi',
  /** Binds when a pod uses the claim. */
  waiting: 'csi-waiting',
  restoreFails: 'csi-restore-fails',
  restoreHangs: 'csi-restore-hangs',
} as const;

export const SNAPSHOT_CLASSES = {
  /** The default of the cluster. Its snapshots are deleted with their objects. */
  deleted: 'csi',
  retained: 'csi-retained',
  fails: 'csi-fails',
  /** Fails four times. The snapshotter repeats the call after 1, 2, 4 and 8 seconds. */
  fullAtFirst: 'csi-full-at-first',
  neverReady: 'csi-never-ready',
  /** The driver reports blocks of one length. */
  fixedBlocks: 'csi-fixed-blocks',
  /** The driver reports a range behind the end of the volume. */
  beyond: 'csi-beyond',
  unordered: 'csi-unordered',
} as const;

/** The message of snapshots and restores that fail on purpose. */
export const FAULT_MESSAGE = 'the pool is broken';

/** At its start, snapshot-controller waits this long for optional definitions that are missing. Default: 30 seconds. */
export const CRD_WAIT = '--retry-crd-interval-max=2s';

const FAILS = { failCode: 'INTERNAL', failMessage: FAULT_MESSAGE };

function storageClass(
  name: string,
  volumeBindingMode: 'Immediate' | 'WaitForFirstConsumer' = 'Immediate',
  parameters: Readonly<Record<string, string>> = {},
): object {
  return { apiVersion: 'storage.k8s.io/v1', kind: 'StorageClass', metadata: { name }, provisioner: DRIVER, volumeBindingMode, parameters };
}

interface SnapshotClassOptions {
  deletionPolicy?: 'Delete' | 'Retain';
  /** Faults; test/cluster/binaries/csi/driver/faults.go lists them. */
  parameters?: Readonly<Record<string, string>>;
  isDefault?: boolean;
}

function snapshotClass(name: string, { deletionPolicy = 'Delete', parameters = {}, isDefault = false }: SnapshotClassOptions = {}): object {
  const annotations = isDefault ? { 'snapshot.storage.kubernetes.io/is-default-class': 'true' } : {};
  return {
    apiVersion: 'snapshot.storage.k8s.io/v1',
    kind: 'VolumeSnapshotClass',
    metadata: { name, annotations },
    driver: DRIVER,
    deletionPolicy,
    parameters,
  };
}

export const STORAGE_OBJECTS: readonly object[] = [
  {
    apiVersion: 'storage.k8s.io/v1',
    kind: 'CSIDriver',
    metadata: { name: DRIVER },
    spec: { attachRequired: false, podInfoOnMount: false, fsGroupPolicy: 'File', volumeLifecycleModes: ['Persistent'] },
  },
  storageClass(STORAGE_CLASSES.immediate),
  storageClass(STORAGE_CLASSES.waiting, 'WaitForFirstConsumer'),
  storageClass(STORAGE_CLASSES.restoreFails, 'Immediate', FAILS),
  storageClass(STORAGE_CLASSES.restoreHangs, 'Immediate', { hangs: 'true' }),
  snapshotClass(SNAPSHOT_CLASSES.deleted, { isDefault: true }),
  snapshotClass(SNAPSHOT_CLASSES.retained, { deletionPolicy: 'Retain' }),
  snapshotClass(SNAPSHOT_CLASSES.fails, { parameters: FAILS }),
  snapshotClass(SNAPSHOT_CLASSES.fullAtFirst, { parameters: { ...FAILS, failCode: 'RESOURCE_EXHAUSTED', failTimes: '4' } }),
  snapshotClass(SNAPSHOT_CLASSES.fixedBlocks, { parameters: { metadata: 'fixed' } }),
  snapshotClass(SNAPSHOT_CLASSES.beyond, { parameters: { metadata: 'beyond' } }),
  snapshotClass(SNAPSHOT_CLASSES.unordered, { parameters: { metadata: 'unordered' } }),
  snapshotClass(SNAPSHOT_CLASSES.neverReady, { parameters: { readyAfterSeconds: 'never' } }),
];

/** Why a node can have no storage here, beside what a node needs; undefined if it can. */
export async function storageProblem(): Promise<string | undefined> {
  if ((await runCommand('which', ['mkfs.xfs'])).code !== 0) return 'mkfs.xfs is not installed';
  if (snapshotCrdFiles() === undefined) return 'the definitions of VolumeSnapshots are missing';
  return kubernetesBinaries(...PROGRAMS) === undefined ? 'its programs are not to be had' : undefined;
}

export interface NodeStorage {
  /** Folders on this machine, readable by root. */
  volumes: string;
  snapshots: string;
  /** The driver's calls so far, as it logs them. */
  driverLog(): string;
  provisionerLog(): string;
}

/** Starts the storage on a node, with which it ends. */
export async function startStorage(cluster: NodeCluster): Promise<NodeStorage> {
  await makeFileSystem(cluster);
  const files = (snapshotCrdFiles() ?? assert.fail('the definitions are there')).flatMap((file) => ['--filename', file]);
  const kubectl = (...args: string[]) => succeed(cluster, path.join(cluster.binaries, 'kubectl'), ...args);
  await kubectl('apply', '--server-side', ...files);
  await kubectl('wait', '--for=condition=Established', '--timeout=30s', ...files);
  const logOf = (program: (typeof PROGRAMS)[number]) => path.join(cluster.directory, `${program}.log`);
  const start = (program: (typeof PROGRAMS)[number], ...args: string[]) =>
    startOnNode(cluster, path.join(cluster.binaries, program), args, logOf(program));
  const clients = [`--kubeconfig=${cluster.kubeconfig}`, '--kube-api-qps=50', '--kube-api-burst=100'];
  start('csi-driver', `-root=${ROOT}`, `-node=${NODE_NAME}`, `-socket=${SOCKET}`, `-registration=${REGISTRATION}`);
  start('snapshot-controller', ...clients, CRD_WAIT);
  start('csi-snapshotter', ...clients, `--csi-address=${SOCKET}`);
  // A restore that failed leaves a finalizer on its VolumeSnapshot. This sweep removes it, by default every 5 minutes.
  start('csi-provisioner', ...clients, `--csi-address=${SOCKET}`, '--snapshot-orphan-sweep-interval=5s');
  const file = path.join(cluster.directory, 'storage.json');
  writeFileSync(file, JSON.stringify({ apiVersion: 'v1', kind: 'List', items: STORAGE_OBJECTS }));
  await kubectl('apply', '--filename', file);
  // The kubelet has found the driver.
  await kubectl('wait', `csinode/${NODE_NAME}`, `--for=jsonpath={.spec.drivers[0].name}=${DRIVER}`, '--timeout=60s');
  const root = `/proc/${cluster.firstPid}/root${ROOT}`;
  return {
    volumes: `${root}/volumes`,
    snapshots: `${root}/snapshots`,
    driverLog: () => readFileSync(logOf('csi-driver'), 'utf8'),
    provisionerLog: () => readFileSync(logOf('csi-provisioner'), 'utf8'),
  };
}

/** The loop device below it is released with the node. */
async function makeFileSystem(cluster: NodeCluster): Promise<void> {
  const image = path.join(cluster.directory, 'csi.xfs');
  await succeed(cluster, 'truncate', `--size=${FILE_SYSTEM_BYTES}`, image);
  await succeed(cluster, 'mkfs.xfs', '-q', '-m', 'reflink=1', image);
  await succeed(cluster, 'mkdir', ROOT);
  await succeed(cluster, 'mount', '--options', 'loop', image, ROOT);
}

async function succeed(cluster: NodeCluster, command: string, ...args: string[]): Promise<void> {
  const { code, stdout, stderr } = await cluster.run(command, args);
  assert.equal(code, 0, `${command} ${args.join(' ')}: ${stdout}${stderr}`);
}
