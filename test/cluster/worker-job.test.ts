/** The Jobs of the controller, on a real API server that validates each field and enforces Pod Security. */

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import type { NewObject } from '../../src/controller/decision.ts';
import { cleanupJobOf, type WorkerJobOptions, workerJobOf } from '../../src/controller/worker-job.ts';
import { validateDiskExport } from '../../src/resource/validate.ts';
import type { ApiServer } from './api-server.ts';
import { TEMPLATE } from './controller-in-process.ts';
import { useApiServer } from './use-api-server.ts';

const OPTIONS: WorkerJobOptions = {
  volumes: [{ key: 'root', claimName: 'root', isBlock: false }],
  worker: 'Live',
  hasManifest: false,
  claimOf: [],
  node: undefined,
  template: TEMPLATE,
};

const METADATA = {
  kind: 'service',
  driver: 'csi.example',
  address: 'metadata.storage:6443',
  audience: 'metadata.example',
  caCert: '',
  snapshot: { name: 'monday', handle: 'h-1' },
} as const;

const WHOLE_TEMPLATE = {
  ...TEMPLATE,
  labels: { 'kueue.x-k8s.io/queue-name': 'nights' },
  annotations: { 'example.com/a': 'b' },
  nodeSelector: { 'kubernetes.io/os': 'linux' },
  tolerations: [{ key: 'storage', operator: 'Exists', effect: 'NoSchedule' }],
  imagePullSecrets: [{ name: 'registry' }],
  priorityClassName: 'system-cluster-critical',
  seLinuxLevel: 's0:c1,c2',
  env: [{ name: 'DISKLIFT_LOG_LEVEL', value: 'debug' }],
};

describe('the Job of an export', function () {
  this.timeout(60_000);
  let server: ApiServer;
  let namespace: string;

  before(async function () {
    server = await useApiServer(this);
    namespace = `jobs-${randomUUID().slice(0, 8)}`;
    const labels = { 'pod-security.kubernetes.io/enforce': 'restricted', 'pod-security.kubernetes.io/enforce-version': 'latest' };
    await post('/api/v1/namespaces', { metadata: { name: namespace, labels } });
    await post(`/api/v1/namespaces/${namespace}/serviceaccounts`, { metadata: { name: TEMPLATE.serviceAccountName } });
  });

  async function post(path: string, body: object): Promise<Record<string, unknown>> {
    const answer = await server.request(`${path}?fieldValidation=Strict`, { method: 'POST', body });
    assert.equal(answer.status, 201, JSON.stringify(answer.body));
    return answer.body as Record<string, unknown>;
  }

  function requestOf(name: string) {
    return validateDiskExport({
      apiVersion: 'disklift.dev/v1alpha1',
      kind: 'DiskExport',
      metadata: { name, namespace, uid: randomUUID() },
      spec: { source: { persistentVolumeClaim: { claimName: 'root' } }, destination: { http: { url: 'https://images.example/a' } } },
    });
  }

  /** The API server judges the pods of a Job, and not the Job itself. */
  async function createBoth(job: NewObject): Promise<void> {
    await post(`/apis/batch/v1/namespaces/${namespace}/jobs`, { ...job, spec: { ...(job.spec as object), suspend: true } });
    const { template } = job.spec as { template: { metadata: object; spec: object } };
    await post(`/api/v1/namespaces/${namespace}/pods`, {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { ...template.metadata, name: job.metadata.name },
      spec: template.spec,
    });
  }

  for (const [sentence, options] of [
    ['a mounted claim', {}],
    ['a block device', { volumes: [{ key: 'root', claimName: 'root', isBlock: true }], worker: 'PointInTime' }],
    [
      'volumes of both modes, vm.yaml, claims by other names and one node',
      {
        volumes: [
          { key: 'disk0', claimName: 'root', isBlock: false },
          { key: 'disk1', claimName: 'data', isBlock: true },
        ],
        hasManifest: true,
        claimOf: [{ key: 'disk0', claimName: 'root' }],
        node: 'node-a.example',
      },
    ],
    ['a token for the SnapshotMetadata service', { worker: 'PointInTime', metadata: METADATA }],
    ['every field of the template', { template: WHOLE_TEMPLATE }],
    ['the user that OpenShift chooses', { template: { ...TEMPLATE, securityContextMode: 'OpenShift' } }],
  ] as const satisfies readonly (readonly [string, Partial<WorkerJobOptions>])[])
    it(`is accepted under Pod Security restricted with ${sentence}`, async () => {
      await createBoth(workerJobOf(requestOf('nightly'), { ...OPTIONS, ...options }));
    });

  it('would be refused there with one setting less', async () => {
    const job = workerJobOf(requestOf('nightly'), OPTIONS);
    const { template } = job.spec as { template: { spec: { securityContext: object } } };
    template.spec.securityContext = {};
    await assert.rejects(createBoth(job), /violates PodSecurity/);
  });

  it('is accepted when it only aborts uploads', async () => {
    await createBoth(cleanupJobOf(requestOf('nightly'), TEMPLATE));
  });

  it('is accepted for an export with the longest name, which no label could hold', async () => {
    await createBoth(workerJobOf(requestOf(`${'a'.repeat(252)}b`), OPTIONS));
  });
});
