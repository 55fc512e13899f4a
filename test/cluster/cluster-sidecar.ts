/** Sidecars on the API server of the tests, each in a namespace of its own, and the DiskExports there. */

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DiskExportStatus } from '../../src/resource/disk-export.ts';
import type { Manifest } from '../helpers/manifest.ts';
import { type Sidecar, type SidecarOptions, startSidecar } from '../helpers/sidecar.ts';
import type { ApiAnswer } from './api-request.ts';
import type { ApiServer } from './api-server.ts';

const MAX_WAIT_MS = 40_000;
const POLL_MS = 50;

/** A DiskExport of the API server. */
interface ExportThere {
  metadata: { name: string; uid: string; generation: number; resourceVersion: string; finalizers?: string[]; deletionTimestamp?: string };
  status?: DiskExportStatus;
}

export interface Namespace {
  readonly name: string;
  /** @param path of a collection or an object in the namespace, such as `leases` */
  request(place: string, options?: Parameters<ApiServer['request']>[1]): Promise<ApiAnswer>;
  apply(manifest: Manifest): Promise<ExportThere>;
  /** A Secret with the label that lets exports use it. */
  secret(name: string, stringData: Record<string, string>): Promise<void>;
  get(name: string): Promise<ExportThere | undefined>;
  edit(name: string, spec: object): Promise<ApiAnswer>;
  remove(name: string): Promise<ApiAnswer>;
  /** Waits until the object fulfils `isRight`; it is undefined when it does not exist. */
  until(name: string, isRight: (object: ExportThere | undefined) => boolean): Promise<ExportThere | undefined>;
  /** Waits until the export has ended. */
  finished(name: string): Promise<DiskExportStatus>;
  /** Reasons of the events of an export, in order. */
  events(name: string): Promise<string[]>;
  leases(): Promise<string[]>;
  start(options: Pick<SidecarOptions, 'volumes'> & Partial<SidecarOptions>): Promise<Sidecar>;
}

const PLACES: Record<string, string> = {
  diskexports: '/apis/disklift.dev/v1alpha1',
  leases: '/apis/coordination.k8s.io/v1',
};

let namespaces = 0;

/** @param namespace an existing one */
export async function createNamespace(api: ApiServer): Promise<Namespace> {
  namespaces += 1;
  const name = `test-${process.pid}-${namespaces}`;
  const { status } = await api.request('/api/v1/namespaces', { method: 'POST', body: { metadata: { name } } });
  assert.equal(status, 201);

  // Without a controller manager no process makes the default account of pods.
  await api.request(`/api/v1/namespaces/${name}/serviceaccounts`, { method: 'POST', body: { metadata: { name: 'default' } } });

  const request: Namespace['request'] = (place, options) => {
    const [kind = ''] = place.split(/[/?]/);
    return api.request(`${PLACES[kind] ?? '/api/v1'}/namespaces/${name}/${place}`, options);
  };

  async function get(export_: string): Promise<ExportThere | undefined> {
    const answer = await request(`diskexports/${export_}`);
    return answer.status === 404 ? undefined : answer.body;
  }

  const until: Namespace['until'] = async (export_, isRight) => {
    let object: ExportThere | undefined;
    for (const endMs = performance.now() + MAX_WAIT_MS; performance.now() < endMs; await sleep(POLL_MS)) {
      object = await get(export_);
      if (isRight(object)) return object;
    }
    return assert.fail(`${export_}: still ${JSON.stringify(object)}`);
  };

  return {
    name,
    request,
    get,
    until,
    async apply(manifest) {
      const body = { ...manifest, metadata: { ...manifest.metadata, namespace: name } };
      const answer = await request('diskexports', { method: 'POST', body });
      assert.equal(answer.status, 201, JSON.stringify(answer.body));
      return answer.body;
    },
    async secret(secret, stringData) {
      const body = { metadata: { name: secret, labels: { 'disklift.dev/credentials': 'true' } }, stringData };
      assert.equal((await request('secrets', { method: 'POST', body })).status, 201);
    },
    edit: (export_, spec) =>
      request(`diskexports/${export_}`, { method: 'PATCH', body: { spec }, contentType: 'application/merge-patch+json' }),
    remove: (export_) => request(`diskexports/${export_}`, { method: 'DELETE' }),
    async finished(export_) {
      const object = await until(export_, (there) => there?.status?.completionTime !== undefined);
      return object?.status as DiskExportStatus;
    },
    async events(export_) {
      const { body } = await request(`events?fieldSelector=involvedObject.name=${export_}`);
      const items = body.items as { reason: string; metadata: { resourceVersion: string } }[];
      return items.sort((a, b) => Number(a.metadata.resourceVersion) - Number(b.metadata.resourceVersion)).map(({ reason }) => reason);
    },
    async leases() {
      const { body } = await request('leases');
      return (body.items as { metadata: { name: string } }[]).map(({ metadata }) => metadata.name);
    },
    start: ({ flags = [], ...options }) =>
      startSidecar({ ...options, flags: ['--kubeconfig', api.kubeconfig, '--namespace', name, '--lease-duration-seconds', '4', ...flags] }),
  };
}
