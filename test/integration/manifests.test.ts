/**
 * The plain manifests: they equal the chart's objects, and users apply them. test/cluster/delivery tests them on a real
 * API server.
 */

import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import type { DiskExport } from '../../src/resource/disk-export.ts';
import { validateDiskExport } from '../../src/resource/validate.ts';
import { CHART, FEDORA, IMAGE, MANIFESTS, parseManifests, readManifests, WINDOWS } from '../helpers/chart.ts';
import { assertRestricted, type Manifest, type Pod, type Workload } from '../helpers/helm-pods.ts';
import { type HelmTools, helmTools } from '../helpers/helm-tools.ts';

/** Labels that Helm adds, and the namespace that it fills in. */
const OF_HELM = ['helm.sh/chart', 'app.kubernetes.io/managed-by', 'app.kubernetes.io/version', 'namespace'];

const NIGHTLY = {
  cron: '30 1 * * *',
  timeZone: 'Etc/UTC',
  spec: {
    destination: {
      s3: {
        endpoint: 'https://s3.example',
        bucket: 'backups',
        key: '{namespace}/{claim}/{timestamp}/{disk}.qcow2',
        ifNotExists: true,
        credentialsSecretRef: { name: 'backup-keys' },
      },
    },
  },
};

/** Only Helm needs another name for each version of a Job. */
const HASH = /(?<=^disklift-fedora-1)-[0-9a-f]{8}$/;

function withoutHelm(manifests: Manifest[]): unknown {
  const without = (key: string, value: unknown) =>
    OF_HELM.includes(key) ? undefined : key === 'name' ? String(value).replace(HASH, '') : value;
  const text = JSON.stringify(manifests, without);
  // Only Helm replaces the pods after a change of the template.
  return JSON.parse(text.replace(/,"annotations":\{"disklift\.dev\/job-template":"\w+"\}/, ''));
}

/** Helm and a file may have objects in different orders. */
function sorted(manifests: unknown): unknown {
  const keyOf = ({ kind, metadata }: Manifest) => `${kind} ${metadata.name}`;
  return (manifests as Manifest[]).toSorted((a, b) => keyOf(a).localeCompare(keyOf(b)));
}

describe('the plain manifests', function () {
  this.timeout(60_000);
  let tools: HelmTools;
  before(() => {
    tools = helmTools();
  });

  function render(volume: object, ...templates: string[]): Promise<unknown> {
    return renderValues(`image.repository=${JSON.stringify(IMAGE.repository)},volumes=${JSON.stringify([volume])}`, templates);
  }

  async function renderValues(values: string, templates: readonly string[]): Promise<unknown> {
    const flags = templates.flatMap((name) => ['--show-only', `templates/${name}.yaml`]);
    const { code, stdout, stderr } = await tools.helm('template', 'disklift', CHART, '--set-json', values, ...flags);
    assert.equal(code, 0, stderr);
    return withoutHelm(parseManifests(stdout.toString()));
  }

  const likeTheChart: [name: string, volume: object, template: string][] = [
    ['rbac', FEDORA, 'rbac'],
    ['deployment', FEDORA, 'deployments'],
    ['deployment-block', WINDOWS, 'deployments'],
    ['job', { ...FEDORA, once: 'fedora-1' }, 'jobs'],
    ['cronjob', { ...FEDORA, schedule: NIGHTLY }, 'schedules'],
  ];
  for (const [name, volume, template] of likeTheChart)
    it(`${name} has the objects that the chart makes`, async () => {
      const manifests = readManifests(`${name}.yaml`).filter(({ kind }) => kind !== 'DiskExport');
      assert.deepEqual(withoutHelm(manifests), await render(volume, template));
    });

  for (const [name, template] of [
    ['rbac', 'controller-rbac'],
    ['controller', 'controller'],
  ] as const)
    it(`controller/${name} has the objects that the chart makes for all namespaces`, async () => {
      const values = `image.repository=${JSON.stringify(IMAGE.repository)},controller.enabled=true`;
      assert.deepEqual(sorted(withoutHelm(readManifests(`controller/${name}.yaml`))), sorted(await renderValues(values, [template])));
    });

  it('controller is combined by kustomize in one namespace, with its account bound there, and without a CRD', async () => {
    const { code, stdout, stderr } = await tools.kubectl('kustomize', path.join(MANIFESTS, 'controller'));
    assert.equal(code, 0, stderr);
    const manifests = parseManifests(stdout.toString());
    for (const { kind, metadata } of manifests)
      assert.equal(metadata.namespace, /^Cluster|^Namespace$/.test(kind) ? undefined : 'disklift', kind);
    const subjects = manifests.flatMap((manifest) => (manifest as Manifest & { subjects?: object[] }).subjects ?? []);
    const subject = { kind: 'ServiceAccount', name: 'disklift-controller', namespace: 'disklift' };
    assert.deepEqual(subjects, [subject, subject]);
    assert.ok(!manifests.some(({ kind }) => kind === 'CustomResourceDefinition'));
  });

  it('cronjob has a valid request and restricted containers', () => {
    const manifests = readManifests('cronjob.yaml');
    const [config] = manifests.filter(({ kind }) => kind === 'ConfigMap') as (Manifest & { data: Record<string, string> })[];
    const [request] = parseManifests(config?.data['request.yaml'] ?? '');
    const { spec } = validateDiskExport({ ...request, metadata: { namespace: 'vms', name: 'of-a-night' } });
    assert.deepEqual([spec.source.persistentVolumeClaim?.claimName, spec.destination.s3?.ifNotExists], ['fedora-root', true]);
    const [cron] = manifests.filter(({ kind }) => kind === 'CronJob') as (Manifest & { spec: { jobTemplate: Workload } })[];
    const pod = cron?.spec.jobTemplate.spec.template.spec ?? assert.fail();
    assert.deepEqual(
      pod.initContainers?.map(({ args }) => args),
      [['create', '--file', '/etc/disklift/request/request.yaml']],
    );
    const volumes = pod.volumes.filter(({ name }) => name !== 'request');
    assertRestricted({ ...pod, volumes, containers: [...pod.containers, ...(pod.initContainers ?? [])] }, { token: true });
  });

  it('native-sidecar has the container of the chart, which starts first and does not count for readiness', () => {
    const [deployment] = readManifests('deployment.yaml') as Workload[];
    const [pod] = readManifests('native-sidecar.yaml') as Pod[];
    const { readinessProbe: _, ...container } = deployment?.spec.template.spec.containers[0] ?? assert.fail();
    assert.deepEqual(pod?.spec.initContainers, [{ ...container, restartPolicy: 'Always' }]);
    assertRestricted(pod?.spec ?? assert.fail(), { token: true });
  });

  for (const name of ['stream-pod', 'stream-pod-block'])
    it(`${name} needs no rights in the API server`, () => {
      const [pod] = readManifests(`${name}.yaml`) as Pod[];
      assert.equal(pod?.metadata.name, name);
      assertRestricted(pod?.spec ?? assert.fail(), { token: false });
    });

  it('restore-pod-block needs no rights in the API server, and writes to the claim that it brings', () => {
    const manifests = readManifests('restore-pod-block.yaml');
    const pod = manifests.find(({ kind }) => kind === 'Pod') as Pod;
    const claim = manifests.find(({ kind }) => kind === 'PersistentVolumeClaim');
    const [volume] = pod.spec.volumes ?? [];
    assert.deepEqual(volume?.persistentVolumeClaim, { claimName: claim?.metadata.name });
    assertRestricted(pod.spec, { token: false, writes: true });
  });

  it('are combined by kustomize without the CRD, so that deleting them deletes no DiskExport', async () => {
    const { code, stdout, stderr } = await tools.kubectl('kustomize', MANIFESTS);
    assert.equal(code, 0, stderr);
    const kinds = parseManifests(stdout.toString()).map(({ kind }) => kind);
    assert.deepEqual(kinds.sort(), ['Deployment', 'Role', 'RoleBinding', 'ServiceAccount']);
  });

  // tenants.yaml is for users: test/cluster/tenants-policy.
  const examples = readdirSync(path.join(MANIFESTS, 'examples')).filter((name) => name !== 'tenants.yaml');
  for (const file of [...examples.map((name) => `examples/${name}`), 'job.yaml'])
    it(`${file} has one valid export, and the objects that it refers to`, () => {
      const manifests = readManifests(file);
      const requests = manifests.flatMap(exportsIn);
      assert.equal(requests.length, 1);
      const { spec } = validateDiskExport(withNamespace(requests[0] as Manifest)) as DiskExport;
      for (const secret of manifests.filter(({ kind }) => kind === 'Secret'))
        assert.equal(secret.metadata.labels?.['disklift.dev/credentials'], 'true');
      const headers = spec.destination.http?.headersSecretRef?.name;
      if (headers !== undefined) assert.ok(manifests.some(({ kind, metadata }) => kind === 'Secret' && metadata.name === headers));
    });
});

/** A schedule counts as the export that it creates. */
function exportsIn(manifest: Manifest): Manifest[] {
  const { apiVersion, metadata, spec } = manifest as Manifest & { spec?: { exportTemplate: { spec: object } } };
  if (manifest.kind === 'DiskExport') return [manifest];
  return manifest.kind === 'DiskExportSchedule'
    ? [{ apiVersion, kind: 'DiskExport', metadata, spec: spec?.exportTemplate.spec } as unknown as Manifest]
    : [];
}

function withNamespace(manifest: Manifest): Manifest {
  const { generateName, ...metadata } = manifest.metadata as Manifest['metadata'] & { generateName?: string };
  return { ...manifest, metadata: { namespace: 'vms', ...(generateName && { name: `${generateName}x` }), ...metadata } };
}
