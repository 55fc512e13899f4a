/** Exports of the controller on an API server with storage: their sources, their truth, and what must be left. */

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { copyFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { DiskExportStatus } from '../../src/resource/disk-export.ts';
import type { HttpSink } from '../helpers/http-sink.ts';
import { diskExport } from '../helpers/manifest.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import type { S3Fake } from '../helpers/s3-fake.ts';
import { s3InParts } from '../helpers/s3-in-parts.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import type { ApiServer } from './api-server.ts';
import type { ApiStorage } from './api-storage.ts';
import type { Namespace } from './cluster-sidecar.ts';
import { STORAGE_CLASSES } from './node/storage.ts';

const MIB = 1024 * 1024;

export interface SceneOptions {
  api: ApiServer;
  storage: ApiStorage;
  namespace: Namespace;
  sink: HttpSink;
  s3: S3Fake;
  /** A directory for files of the test. */
  directory: string;
  node: string;
}

export interface Scenes {
  /** A claim of the storage class with a disk. @returns the path of its disk.img */
  claim(name: string, options?: { storageClassName?: string; mode?: 'Filesystem' | 'Block' }): Promise<string>;
  /** A pod that has the claim mounted to write, as a VM's pod has. No process runs in it. */
  writer(claimName: string): Promise<void>;
  /** A pod that no process stands behind. */
  pod(name: string, spec: { containers: readonly object[]; volumes: readonly object[] }): Promise<void>;
  /** A copy of the disk as it is now, to compare with. */
  keep(disk: string, name: string): Promise<string>;
  /** A VolumeSnapshot as a user makes it, by default of the default class. @returns its time, when it is ready */
  snapshot(name: string, claimName: string, className?: string): Promise<string>;
  /** Creates an export of a claim to the sink, if `spec` does not say otherwise. */
  export(name: string, claimName: string, spec?: Record<string, unknown>): Promise<void>;
  /** The same to the fake S3 server, in parts. */
  exportToS3(name: string, claimName: string, spec?: Record<string, unknown>): Promise<void>;
  cancel(name: string): Promise<void>;
  /** Waits until the status fulfils `isRight`. */
  status(name: string, isRight: (status: DiskExportStatus) => boolean): Promise<DiskExportStatus>;
  /** Waits until the export has ended. */
  finished(name: string): Promise<DiskExportStatus>;
  /** Waits until the export does not exist. */
  gone(name: string): Promise<void>;
  /** @param disk what the image must have */
  assertArrived(name: string, disk: string): Promise<void>;
  /** Everything in the namespace, and all that the driver has. */
  objects(): Promise<string[]>;
  /** Waits until the objects are those of `before`, and no others. */
  assertNothingLeft(before: readonly string[]): Promise<void>;
}

const LIMIT_MS = 90_000;
const POLL_MS = 100;

export function createScenes(options: SceneOptions): Scenes {
  const { api, storage, namespace, sink, s3, directory, node } = options;
  const within = (group: string, plural: string) => `${group}/namespaces/${namespace.name}/${plural}`;

  async function post(place: string, body: object): Promise<Record<string, unknown>> {
    const answer = await api.request(place, { method: 'POST', body });
    assert.equal(answer.status, 201, `${place}: ${JSON.stringify(answer.body)}`);
    return answer.body;
  }

  async function untilBound(name: string): Promise<string> {
    let volumeName = '';
    await until(`the claim ${name} is bound`, LIMIT_MS, async () => {
      const { body } = await api.request(within('/api/v1', `persistentvolumeclaims/${name}`));
      volumeName = body.spec?.volumeName;
      return body.status?.phase === 'Bound';
    });
    return volumeName;
  }

  const scenes: Scenes = {
    async claim(name, { storageClassName = STORAGE_CLASSES.immediate, mode = 'Filesystem' } = {}) {
      await post(within('/api/v1', 'persistentvolumeclaims'), {
        metadata: { name },
        spec: { accessModes: ['ReadWriteOnce'], volumeMode: mode, storageClassName, resources: { requests: { storage: '32Mi' } } },
      });
      const { body: volume } = await api.request(`/api/v1/persistentvolumes/${await untilBound(name)}`);
      const place = storage.pathOf(volume);
      const disk = mode === 'Block' ? place : path.join(place, 'disk.img');
      if (mode === 'Filesystem') mkdirSync(place, { recursive: true });
      await createDisk(disk, 16 * MIB, [{ offsetBytes: MIB, lengthBytes: 5 * MIB, content: 'random' }]);
      return disk;
    },
    writer: (claimName) =>
      scenes.pod(`writer-${claimName}`, {
        containers: [{ name: 'compute', image: 'registry.example/vm', volumeMounts: [{ name: 'disk', mountPath: '/disk' }] }],
        volumes: [{ name: 'disk', persistentVolumeClaim: { claimName } }],
      }),
    async pod(name, spec) {
      await post(within('/api/v1', 'pods'), { metadata: { name }, spec: { nodeName: node, ...spec } });
      const place = within('/api/v1', `pods/${name}/status`);
      const contentType = 'application/merge-patch+json';
      assert.equal((await api.request(place, { method: 'PATCH', body: { status: { phase: 'Running' } }, contentType })).status, 200);
    },
    async keep(disk, name) {
      const copy = path.join(directory, `${namespace.name}-${name}.raw`);
      await copyFile(disk, copy);
      return copy;
    },
    async snapshot(name, claimName, className) {
      const place = within('/apis/snapshot.storage.k8s.io/v1', 'volumesnapshots');
      await post(place, {
        apiVersion: 'snapshot.storage.k8s.io/v1',
        kind: 'VolumeSnapshot',
        metadata: { name },
        spec: {
          source: { persistentVolumeClaimName: claimName },
          ...(className === undefined ? {} : { volumeSnapshotClassName: className }),
        },
      });
      let time = '';
      await until(`the snapshot ${name} is ready`, LIMIT_MS, async () => {
        const { body } = await api.request(`${place}/${name}`);
        time = body.status?.creationTime;
        return body.status?.readyToUse === true;
      });
      return time;
    },
    async export(name, claimName, spec = {}) {
      const http = { url: `${sink.url}/${namespace.name}/{name}/{disk}.qcow2` };
      await namespace.apply(diskExport(name, { http }, { source: { persistentVolumeClaim: { claimName } }, ...spec }));
    },
    async exportToS3(name, claimName, spec = {}) {
      const destination = s3InParts(s3.url, `${namespace.name}/{name}`);
      await namespace.apply(diskExport(name, destination, { source: { persistentVolumeClaim: { claimName } }, ...spec }));
    },
    async cancel(name) {
      assert.equal((await namespace.edit(name, { cancel: true })).status, 200);
    },
    async status(name, isRight) {
      let status: DiskExportStatus | undefined;
      for (const endMs = performance.now() + LIMIT_MS; performance.now() < endMs; await sleep(POLL_MS)) {
        status = (await namespace.get(name))?.status;
        if (status !== undefined && isRight(status)) return status;
      }
      return assert.fail(`${name}: still ${JSON.stringify(status, null, 2)}`);
    },
    finished: (name) => scenes.status(name, ({ completionTime }) => completionTime !== undefined),
    gone: (name) => until(`${name} is gone`, LIMIT_MS, async () => (await namespace.get(name)) === undefined),
    async assertArrived(name, disk) {
      const place = [...sink.complete.keys()].find((each) => each.startsWith(`/${namespace.name}/${name}/`));
      const image = path.join(directory, `${namespace.name}-${name}.qcow2`);
      await writeFile(image, sink.complete.get(place ?? '') ?? assert.fail(`nothing of ${name} has arrived`));
      await assertImageOf(image, disk);
    },
    async objects() {
      const found = await Promise.all(EXPORT_KINDS.map(([group, plural]) => namesOf(api, within(group, plural), plural)));
      const { body } = await api.request('/apis/snapshot.storage.k8s.io/v1/volumesnapshotcontents');
      const contents = body.items.map(({ metadata }: { metadata: { name: string } }) => `content ${metadata.name}`);
      return [...found.flat(), ...contents, ...storage.contents().map((each) => `storage ${each}`)].sort();
    },
    async assertNothingLeft(before) {
      const expected = [...before].sort();
      let now: string[] = [];
      for (const endMs = performance.now() + LIMIT_MS; performance.now() < endMs; await sleep(POLL_MS)) {
        now = await scenes.objects();
        if (isDeepStrictEqual(now, expected)) return;
      }
      assert.deepEqual(now, expected);
    },
  };
  return scenes;
}

/** All kinds that the controller, its workers or Kubernetes in their place may leave. Exports and events stay. */
export const EXPORT_KINDS = [
  ['/apis/batch/v1', 'jobs'],
  ['/api/v1', 'pods'],
  ['/api/v1', 'persistentvolumeclaims'],
  ['/api/v1', 'configmaps'],
  ['/api/v1', 'secrets'],
  ['/api/v1', 'serviceaccounts'],
  ['/apis/rbac.authorization.k8s.io/v1', 'rolebindings'],
  ['/apis/rbac.authorization.k8s.io/v1', 'roles'],
  ['/apis/coordination.k8s.io/v1', 'leases'],
  ['/apis/snapshot.storage.k8s.io/v1', 'volumesnapshots'],
] as const;

async function namesOf(api: ApiServer, place: string, plural: string): Promise<string[]> {
  const { body } = await api.request(place);
  return body.items.map(({ metadata }: { metadata: { name: string } }) => `${plural} ${metadata.name}`);
}

async function until(what: string, limitMs: number, isSo: () => Promise<boolean>): Promise<void> {
  for (const endMs = performance.now() + limitMs; !(await isSo()); await sleep(POLL_MS))
    assert.ok(performance.now() < endMs, `waited in vain for: ${what}`);
}
