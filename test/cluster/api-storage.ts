/**
 * Storage for an API server without nodes: the CSI driver of the tests with the real provisioner, snapshotter and
 * snapshot controller. A node object stands in for the node that would mount the volumes.
 */

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { until } from '../helpers/until.ts';
import type { ApiServer } from './api-server.ts';
import { kubernetesBinaries } from './kubernetes-binaries.ts';
import { CRD_WAIT, DRIVER, STORAGE_CLASSES, STORAGE_OBJECTS, TOPOLOGY_KEY } from './node/storage.ts';
import { snapshotCrdFiles } from './operator-crds.ts';
import type { Volume } from './pod-runner.ts';
import { endProgram, type Program, startProgram } from './program.ts';

/** The programs that {@link startApiStorage} starts. */
export const STORAGE_PROGRAMS = ['csi-driver', 'csi-provisioner', 'csi-snapshotter', 'snapshot-controller'] as const;

type ProgramName = (typeof STORAGE_PROGRAMS)[number];

export interface ApiStorage extends AsyncDisposable {
  /** Socket of the CSI driver. */
  readonly socket: string;
  /** The directory or the file of a bound volume. */
  pathOf(volume: Volume): string;
  /** Names of all volumes and snapshots that the driver has. */
  contents(): string[];
  /** The end of the log of one of its programs. */
  logOf(program: ProgramName): string;
}

/** @param node name of the node object, which is made */
export async function startApiStorage(api: ApiServer, node: string): Promise<ApiStorage> {
  const binaries = kubernetesBinaries(...STORAGE_PROGRAMS) ?? assert.fail('the programs of storage are built');
  const directory = mkdtempSync(path.join(os.tmpdir(), 'disklift-csi-'));
  const root = path.join(directory, 'root');
  mkdirSync(root);
  const socket = path.join(directory, 'csi.sock');
  const files = (snapshotCrdFiles() ?? assert.fail('the definitions are there')).flatMap((file) => ['--filename', file]);
  const kubectl = async (...args: string[]) => {
    const { code, stdout, stderr } = await api.kubectl(...args);
    assert.equal(code, 0, `kubectl ${args.join(' ')}: ${stdout}${stderr}`);
  };
  await kubectl('apply', '--server-side', ...files);
  await kubectl('wait', '--for=condition=Established', '--timeout=30s', ...files);
  for (const object of [...STORAGE_OBJECTS, ...nodeObjects(node)]) await create(api, object);
  const clients = [`--kubeconfig=${api.kubeconfig}`, '--kube-api-qps=50', '--kube-api-burst=100'];
  const logFile = (program: ProgramName) => path.join(directory, `${program}.log`);
  const start = (program: ProgramName, ...args: string[]) =>
    startProgram(path.join(binaries, program), args, openSync(logFile(program), 'w'));
  const programs: Program[] = [
    start('csi-driver', `-root=${root}`, `-node=${node}`, `-socket=${socket}`, `-registration=${path.join(directory, 'reg.sock')}`),
  ];
  await until('the driver listens', () => existsSync(socket));
  programs.unshift(
    start('snapshot-controller', ...clients, CRD_WAIT),
    start('csi-snapshotter', ...clients, `--csi-address=${socket}`),
    // A restore that failed leaves a finalizer on its VolumeSnapshot. This sweep removes it.
    start('csi-provisioner', ...clients, `--csi-address=${socket}`, '--snapshot-orphan-sweep-interval=2s'),
  );
  const storage: ApiStorage = {
    socket,
    pathOf(volume) {
      const folder = path.join(root, 'volumes', volume.spec.csi.volumeHandle);
      return path.join(folder, volume.spec.volumeMode === 'Block' ? 'disk.img' : 'data');
    },
    contents: () => [...list(path.join(root, 'volumes')), ...list(path.join(root, 'snapshots'))],
    logOf: (program) => readFileSync(logFile(program), 'utf8').slice(-4000),
    async [Symbol.asyncDispose]() {
      for (const program of programs) await endProgram(program);
      rmSync(directory, { recursive: true, force: true });
    },
  };
  await takeOneSnapshot(api, storage);
  return storage;
}

/** Until each program has done its part once, a deadline of a test would measure their start. */
async function takeOneSnapshot(api: ApiServer, storage: ApiStorage): Promise<void> {
  const claim = '/api/v1/namespaces/default/persistentvolumeclaims';
  const snapshot = '/apis/snapshot.storage.k8s.io/v1/namespaces/default/volumesnapshots';
  const resources = { requests: { storage: '1Mi' } };
  const spec = { accessModes: ['ReadWriteOnce'], storageClassName: STORAGE_CLASSES.immediate, resources };
  await post(api, claim, { metadata: { name: 'first' }, spec });
  await post(api, snapshot, {
    apiVersion: 'snapshot.storage.k8s.io/v1',
    kind: 'VolumeSnapshot',
    metadata: { name: 'first' },
    spec: { source: { persistentVolumeClaimName: 'first' } },
  });
  const isReady = async () => (await api.request(`${snapshot}/first`)).body.status?.readyToUse === true;
  await until('a first snapshot is ready', isReady, 60_000).catch((error: Error) => {
    assert.fail([error.message, ...STORAGE_PROGRAMS.map((program) => `${program}: ${storage.logOf(program)}`)].join('\n'));
  });
  await api.request(`${snapshot}/first`, { method: 'DELETE' });
  await api.request(`${claim}/first`, { method: 'DELETE' });
  await until('the storage is empty', () => storage.contents().length === 0, 60_000);
}

/** A node and its driver, as the kubelet registers them: the provisioner asks for the topology of both. */
function nodeObjects(name: string): object[] {
  return [
    {
      apiVersion: 'v1',
      kind: 'Node',
      metadata: { name, labels: { 'kubernetes.io/hostname': name, [TOPOLOGY_KEY]: name } },
      spec: {},
    },
    {
      apiVersion: 'storage.k8s.io/v1',
      kind: 'CSINode',
      metadata: { name },
      spec: { drivers: [{ name: DRIVER, nodeID: name, topologyKeys: [TOPOLOGY_KEY] }] },
    },
  ];
}

const PLACES: Readonly<Record<string, string>> = {
  Node: '/api/v1/nodes',
  CSINode: '/apis/storage.k8s.io/v1/csinodes',
  CSIDriver: '/apis/storage.k8s.io/v1/csidrivers',
  StorageClass: '/apis/storage.k8s.io/v1/storageclasses',
  VolumeSnapshotClass: '/apis/snapshot.storage.k8s.io/v1/volumesnapshotclasses',
};

async function create(api: ApiServer, object: object): Promise<void> {
  const { kind } = object as { kind: string };
  await post(api, PLACES[kind] ?? assert.fail(kind), object);
}

async function post(api: ApiServer, place: string, body: object): Promise<void> {
  const answer = await api.request(place, { method: 'POST', body });
  assert.equal(answer.status, 201, JSON.stringify(answer.body));
}

function list(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : [];
}
