/**
 * The Job that the chart runs before uninstalling: its objects, their order and their rights.
 * test/cluster/uninstall-pods runs it.
 */

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { CHART, EVERYTHING, FEDORA, IMAGE, MINIMAL, ofKind, parseManifests, WINDOWS } from '../helpers/chart.ts';
import { assertRestricted, isOfHook, type Manifest, type Role, type Workload } from '../helpers/helm-pods.ts';
import { helmTools } from '../helpers/helm-tools.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const NAME = 'nightly-disklift-stop-sidecars';

describe('the hook of the chart that stops the pods', function () {
  this.timeout(60_000);
  const inTempDir = useTempDir();

  async function render(values: object, release = 'nightly'): Promise<Manifest[]> {
    const file = inTempDir('values.json');
    writeFileSync(file, JSON.stringify(values));
    const { code, stdout, stderr } = await helmTools().helm('template', release, CHART, '--namespace', 'vms', '--values', file);
    assert.equal(code, 0, stderr);
    return parseManifests(stdout.toString());
  }

  /** Without those of the hook for the controller: chart-controller has them. */
  const hooksOf = (manifests: Manifest[]) =>
    manifests.filter(({ metadata }) => isOfHook(metadata) && !/stop-controller/.test(metadata.name));

  const rulesOf = (hooks: Manifest[]) => ofKind<Role>(hooks, 'Role').flatMap(({ rules }) => rules);

  function jobOf(hooks: Manifest[]): Workload {
    const [job, ...others] = ofKind<Workload>(hooks, 'Job');
    assert.deepEqual(others, []);
    return job ?? assert.fail('there is a Job');
  }

  it('makes an account with its rights, then a Job, and deletes them all afterwards', async () => {
    const hooks = hooksOf(await render(MINIMAL));
    assert.deepEqual(
      hooks.map(({ kind, metadata: { annotations = {}, name } }) => [
        kind,
        name,
        annotations['helm.sh/hook'],
        annotations['helm.sh/hook-weight'],
      ]),
      [
        ['ServiceAccount', NAME, 'pre-delete', '-1'],
        ['Role', NAME, 'pre-delete', '-1'],
        ['RoleBinding', NAME, 'pre-delete', '-1'],
        ['Job', NAME, 'pre-delete', '0'],
      ],
    );
    for (const { metadata } of hooks)
      assert.equal(metadata.annotations?.['helm.sh/hook-delete-policy'], 'before-hook-creation,hook-succeeded,hook-failed');
  });

  it('passes every Deployment and Job of the release to the command, and permits no more', async () => {
    const manifests = await render({ image: IMAGE, volumes: [FEDORA, WINDOWS, { ...FEDORA, name: 'data', once: 'data-nightly' }] });
    const hooks = hooksOf(manifests);
    const own = manifests.filter((manifest) => !hooks.includes(manifest));
    const [deployments, jobs] = ['Deployment', 'Job'].map((kind) => ofKind(own, kind).map(({ metadata }) => metadata.name));
    assert.deepEqual(rulesOf(hooks), [
      { apiGroups: ['apps'], resources: ['deployments/scale'], resourceNames: deployments, verbs: ['patch'] },
      { apiGroups: ['batch'], resources: ['jobs'], resourceNames: jobs, verbs: ['patch'] },
      { apiGroups: [''], resources: ['pods'], verbs: ['list'] },
    ]);
    assert.deepEqual(jobOf(hooks).spec.template.spec.containers[0]?.args, [
      'stop-sidecars',
      ...['--namespace', 'vms'],
      ...['--selector', 'app.kubernetes.io/name=disklift,app.kubernetes.io/instance=nightly,disklift.dev/volume'],
      ...(deployments ?? []).flatMap((name) => ['--deployment', name]),
      ...(jobs ?? []).flatMap((name) => ['--job', name]),
    ]);
  });

  it('suspends a CronJob and the Jobs that it has made', async () => {
    const schedule = { cron: '0 1 * * *', spec: { destination: { http: { url: 'http://h/{date}' } } } };
    const manifests = await render({ image: IMAGE, volumes: { fedora: { claimName: 'fedora-root', schedule } } });
    const hooks = hooksOf(manifests);
    assert.deepEqual(rulesOf(hooks), [
      { apiGroups: ['batch'], resources: ['cronjobs'], resourceNames: ['nightly-disklift-fedora'], verbs: ['patch'] },
      { apiGroups: ['batch'], resources: ['jobs'], verbs: ['list', 'patch'] },
      { apiGroups: [''], resources: ['pods'], verbs: ['list'] },
    ]);
    assert.deepEqual(jobOf(hooks).spec.template.spec.containers[0]?.args?.slice(-2), ['--cronjob', 'nightly-disklift-fedora']);
  });

  it('runs in a pod that is as restricted as the others, has no volume, and does not wait for itself', async () => {
    for (const [values, mode] of [
      [EVERYTHING, 'KubeVirt'],
      [{ ...EVERYTHING, securityContext: { mode: 'OpenShift' } }, 'OpenShift'],
    ] as const) {
      const { labels, annotations } = jobOf(hooksOf(await render(values))).spec.template.metadata;
      assert.deepEqual(labels, { 'app.kubernetes.io/name': 'disklift', 'app.kubernetes.io/instance': 'nightly', team: 'backup' });
      assert.deepEqual(annotations, { note: 'x' });
      const { spec } = jobOf(hooksOf(await render(values))).spec.template;
      assert.equal(spec.volumes, undefined);
      assertRestricted({ ...spec, volumes: [] }, { mode, token: true });
      const { nodeSelector, tolerations, affinity, serviceAccountName } = spec;
      assert.partialDeepStrictEqual(EVERYTHING, { nodeSelector, tolerations, affinity });
      assert.equal(serviceAccountName, NAME);
      // An environment that keeps a sidecar from starting must not keep its release from being uninstalled.
      assert.equal(spec.containers[0]?.env, undefined);
    }
  });

  it('uses the given account if the chart makes none', async () => {
    const hooks = hooksOf(await render({ ...MINIMAL, serviceAccount: { create: false, name: 'backup' } }));
    assert.deepEqual(
      hooks.map(({ kind }) => kind),
      ['Role', 'RoleBinding', 'Job'],
    );
    assert.equal(jobOf(hooks).spec.template.spec.serviceAccountName, 'backup');
    const [binding] = ofKind<Manifest & { subjects: object[] }>(hooks, 'RoleBinding');
    assert.deepEqual(binding?.subjects, [{ kind: 'ServiceAccount', name: 'backup' }]);
  });

  it('has a name that fits into a label, for any name of the release', async () => {
    const { name } = jobOf(hooksOf(await render(MINIMAL, `${'a'.repeat(48)}-bcde`))).metadata;
    assert.equal(name, `${'a'.repeat(48)}-stop-sidecars`);
  });

  for (const [title, values] of [
    ['when it is off', { uninstallHook: { enabled: false } }],
    ['where the chart may make no Role', { rbac: { create: false } }],
  ] as const)
    it(`is not rendered ${title}`, async () => {
      assert.deepEqual(hooksOf(await render({ ...MINIMAL, ...values })), []);
    });
});
