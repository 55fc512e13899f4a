/**
 * The real csi-snapshot-metadata in front of the CSI driver of the tests, and the objects by which its clients find it.
 * It asks the API server who its clients are, and whether they may read snapshots.
 */

import assert from 'node:assert/strict';
import { mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { freePort } from '../helpers/free-port.ts';
import { createTestAuthority } from '../helpers/test-authority.ts';
import { until } from '../helpers/until.ts';
import type { ApiServer } from './api-server.ts';
import type { ApiStorage } from './api-storage.ts';
import { kubernetesBinaries } from './kubernetes-binaries.ts';
import { DRIVER } from './node/storage.ts';
import { endProgram, startProgram } from './program.ts';

export const METADATA_PROGRAM = 'csi-snapshot-metadata';

export const AUDIENCE = 'snapshots.test.disklift.dev';

const PLACE = '/apis/cbt.storage.k8s.io/v1beta1/snapshotmetadataservices';

/** As the registry lacks the definition of the module `client`: the fields of v1beta1 that the sidecar reads. */
const DEFINITION = {
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: {
    name: 'snapshotmetadataservices.cbt.storage.k8s.io',
    annotations: { 'api-approved.kubernetes.io': 'unapproved, for tests' },
  },
  spec: {
    group: 'cbt.storage.k8s.io',
    scope: 'Cluster',
    names: {
      kind: 'SnapshotMetadataService',
      listKind: 'SnapshotMetadataServiceList',
      plural: 'snapshotmetadataservices',
      singular: 'snapshotmetadataservice',
    },
    versions: [
      {
        name: 'v1beta1',
        served: true,
        storage: true,
        schema: {
          openAPIV3Schema: {
            type: 'object',
            properties: {
              spec: {
                type: 'object',
                properties: { address: { type: 'string' }, audience: { type: 'string' }, caCert: { type: 'string', format: 'byte' } },
                required: ['address', 'audience', 'caCert'],
              },
            },
            required: ['spec'],
          },
        },
      },
    ],
  },
};

export interface MetadataServiceOfTest extends AsyncDisposable {
  /** PEM. */
  ca: string;
  address: string;
  /** Makes or removes the SnapshotMetadataService of the driver. */
  announce(isThere: boolean): Promise<void>;
  log(): string;
}

export async function startMetadataService(api: ApiServer, storage: Pick<ApiStorage, 'socket'>): Promise<MetadataServiceOfTest> {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'disklift-metadata-'));
  const binaries = kubernetesBinaries(METADATA_PROGRAM) ?? assert.fail('the sidecar is built');
  const created = await api.request('/apis/apiextensions.k8s.io/v1/customresourcedefinitions', { method: 'POST', body: DEFINITION });
  assert.ok(created.status === 201 || created.status === 409, JSON.stringify(created.body));
  const authority = await createTestAuthority(directory);
  const { certificateFile, keyFile } = await authority.issue('metadata', 'IP:127.0.0.1');
  const port = await freePort();
  const logFile = path.join(directory, 'csi-snapshot-metadata.log');
  const program = startProgram(
    path.join(binaries, METADATA_PROGRAM),
    [
      ...[`--kubeconfig=${api.kubeconfig}`, `--csi-address=${storage.socket}`, `--port=${port}`, '--v=4'],
      ...[`--tls-cert=${certificateFile}`, `--tls-key=${keyFile}`, `--http-endpoint=127.0.0.1:${await freePort()}`],
    ],
    openSync(logFile, 'w'),
  );
  const log = () => readFileSync(logFile, 'utf8');
  await until('the sidecar serves', () => log().includes('HTTP server listening'), 30_000).catch(() => assert.fail(log()));
  const address = `127.0.0.1:${port}`;
  return {
    ca: authority.ca,
    address,
    async announce(isThere) {
      await until('the definition is served', async () => (await api.request(PLACE)).status === 200);
      // An earlier test has announced a service at another port.
      await api.request(`${PLACE}/${DRIVER}`, { method: 'DELETE' });
      if (!isThere) return;
      const spec = { address, audience: AUDIENCE, caCert: Buffer.from(authority.ca).toString('base64') };
      const body = { apiVersion: 'cbt.storage.k8s.io/v1beta1', kind: 'SnapshotMetadataService', metadata: { name: DRIVER }, spec };
      const answer = await api.request(PLACE, { method: 'POST', body });
      assert.equal(answer.status, 201, JSON.stringify(answer.body));
    },
    log,
    async [Symbol.asyncDispose]() {
      await endProgram(program);
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
