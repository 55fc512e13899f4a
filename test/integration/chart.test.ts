/**
 * The Helm chart with the real helm and kubectl, without a cluster. test/cluster/delivery tests it on a real API
 * server.
 */

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { REFUSED_VALUES } from '../fixtures/refused-values.ts';
import { CHART, EVERYTHING, FEDORA, IMAGE, MINIMAL, ofKind, parseManifests, WINDOWS } from '../helpers/chart.ts';
import { assertRestricted, type Manifest, type PodSpec, type Role, type Workload } from '../helpers/helm-pods.ts';
import { type HelmTools, helmTools } from '../helpers/helm-tools.ts';
import type { CommandResult } from '../helpers/run-command.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const ROOT = path.join(import.meta.dirname, '..', '..');

const deploymentsOf = (manifests: Manifest[]) => ofKind<Workload>(manifests, 'Deployment');

/** One Deployment's pod; there must be exactly one. */
function podOf(manifests: Manifest[]): PodSpec {
  const deployments = deploymentsOf(manifests);
  assert.equal(deployments.length, 1);
  return (deployments[0] as Workload).spec.template.spec;
}

function environmentOf(manifests: Manifest[]): Record<string, string | undefined> {
  return Object.fromEntries((podOf(manifests).containers[0]?.env ?? []).map(({ name, value }) => [name, value]));
}

/** The settings of the PodMonitor's endpoint, without port, path and interval. */
function endpointOf(manifests: Manifest[]): object {
  const [monitor] = ofKind<Manifest & { spec: { podMetricsEndpoints: Record<string, unknown>[] } }>(manifests, 'PodMonitor');
  const { port, path, interval, ...others } = monitor?.spec.podMetricsEndpoints[0] ?? assert.fail();
  assert.deepEqual([port, path, interval], ['http', '/metrics', '30s']);
  return others;
}

/** The rights of the Role, as `RESOURCE VERB`, with the names that it is limited to. */
function permitted(manifests: Manifest[]): string[] {
  const rules = ofKind<Role>(manifests, 'Role').flatMap(({ rules }) => rules);
  return rules.flatMap(({ resources, verbs, resourceNames = [] }) =>
    resources.flatMap((resource) => verbs.map((verb) => [resource, verb, ...resourceNames].join(' '))),
  );
}

function assertSucceeded(result: CommandResult): string {
  assert.equal(result.code, 0, result.stderr);
  return result.stdout.toString();
}

describe('the chart', function () {
  this.timeout(120_000);

  const inTempDir = useTempDir();
  let tools: HelmTools;
  before(() => {
    tools = helmTools();
  });

  function valuesFile(values: unknown): string {
    const file = inTempDir('values.json');
    writeFileSync(file, JSON.stringify(values));
    return file;
  }

  /** Renders the objects of a release; chart-uninstall renders those of its end. */
  const template = (values: unknown, ...flags: string[]) =>
    tools.helm('template', 'nightly', CHART, '--namespace', 'vms', '--no-hooks', '--values', valuesFile(values), ...flags);

  const render = async (values: unknown) => parseManifests(assertSucceeded(await template(values)));

  describe('helm lint --strict', () => {
    for (const [title, values] of [
      ['finds nothing with the default values', {}],
      ['finds nothing with every object of the chart', EVERYTHING],
    ] as const) {
      it(title, async () => {
        assertSucceeded(await tools.helm('lint', '--strict', CHART, '--values', valuesFile(values)));
      });
    }
  });

  it('gives a Job another name whenever its template changes, because a Job cannot be changed', async () => {
    const nameWith = async (values: object) =>
      ofKind(await render({ image: IMAGE, volumes: { a: { claimName: 'a', once: 'x' } }, ...values }), 'Job')[0]?.metadata.name;
    const changed = [
      { image: { ...IMAGE, tag: '2' } },
      { podAnnotations: { a: 'b' } },
      { resources: { limits: { memory: '1Gi' } } },
      { volumes: { a: { claimName: 'b', once: 'x' } } },
    ];
    const names: (string | undefined)[] = [];
    for (const values of [{}, ...changed]) names.push(await nameWith(values));
    assert.equal(new Set(names).size, names.length, `${names}`);
    assert.equal(await nameWith({ dashboard: { enabled: true } }), names[0]);
  });

  for (const flag of ['volumes.a.claimName=b', 'volumes[0].name=a,volumes[0].claimName=b'])
    it(`accepts --set ${flag} without a warning`, async () => {
      const { code, stdout, stderr } = await tools.helm('template', 'x', CHART, '--set', `image.repository=x,${flag}`);
      assert.deepEqual([code, stderr.toString()], [0, '']);
      assert.deepEqual(podOf(parseManifests(stdout.toString())).containers[0]?.args, ['sidecar', '--volume', 'b=/disks']);
    });

  describe('helm template', () => {
    const accepted: [title: string, values: object, check: (manifests: Manifest[]) => void][] = [
      [
        'mounts a claim with a file system below /disks',
        MINIMAL,
        (manifests) => {
          const { containers, volumes } = podOf(manifests);
          assert.deepEqual(containers[0]?.args, ['sidecar', '--volume', 'fedora-root=/disks']);
          assert.deepEqual(containers[0]?.volumeMounts, [{ name: 'disks', mountPath: '/disks', readOnly: true }]);
          assert.equal(containers[0]?.volumeDevices, undefined);
          assert.deepEqual(volumes, [{ name: 'disks', persistentVolumeClaim: { claimName: 'fedora-root', readOnly: true } }]);
        },
      ],
      [
        'gives a block volume as a device',
        { image: IMAGE, volumes: [WINDOWS] },
        (manifests) => {
          const [container] = podOf(manifests).containers;
          assert.deepEqual(container?.args, ['sidecar', '--volume', 'windows-root=/dev/vmdisk']);
          assert.deepEqual(container?.volumeDevices, [{ name: 'disks', devicePath: '/dev/vmdisk' }]);
          assert.equal(container?.volumeMounts, undefined);
        },
      ],
      [
        'makes one Deployment for each volume, with a selector of its own and at most one pod at a time',
        { image: IMAGE, volumes: [FEDORA, WINDOWS] },
        (manifests) => {
          const deployments = deploymentsOf(manifests);
          assert.deepEqual(
            deployments.map(({ metadata: { name, namespace } }) => [name, namespace]),
            ['fedora', 'windows'].map((name) => [`nightly-disklift-${name}`, 'vms']),
          );
          const selectors = deployments.map(({ spec }) => JSON.stringify(spec.selector.matchLabels));
          assert.equal(new Set(selectors).size, 2);
          for (const { spec } of deployments) {
            assert.equal(spec.replicas, 1);
            assert.deepEqual(spec.strategy, { type: 'Recreate' });
            assert.deepEqual(spec.template.metadata.labels, spec.selector.matchLabels);
          }
        },
      ],
      [
        'uses the appVersion as the default tag',
        MINIMAL,
        (manifests) => assert.equal(podOf(manifests).containers[0]?.image, `${IMAGE.repository}:${packageVersion()}`),
      ],
      [
        'accepts another tag, pull policy and pull secrets',
        { ...MINIMAL, image: { ...IMAGE, tag: '1.10', pullPolicy: 'Always' }, imagePullSecrets: [{ name: 'registry' }] },
        (manifests) => {
          const pod = podOf(manifests);
          assert.equal(pod.containers[0]?.image, `${IMAGE.repository}:1.10`);
          assert.deepEqual(pod.imagePullSecrets, [{ name: 'registry' }]);
        },
      ],
      [
        'accepts node selectors, tolerations and affinity',
        { ...MINIMAL, nodeSelector: { zone: '1' }, tolerations: [{ operator: 'Exists' }], affinity: { nodeAffinity: {} } },
        (manifests) => {
          const { nodeSelector, tolerations, affinity } = podOf(manifests);
          assert.deepEqual(
            { nodeSelector, tolerations, affinity },
            { nodeSelector: { zone: '1' }, tolerations: [{ operator: 'Exists' }], affinity: { nodeAffinity: {} } },
          );
        },
      ],
      [
        'adds labels to pods, but does not replace the labels of the selector',
        { ...MINIMAL, podLabels: { team: 'backup', 'app.kubernetes.io/name': 'other' } },
        (manifests) => {
          const { selector, template } = (deploymentsOf(manifests)[0] as Workload).spec;
          assert.deepEqual(template.metadata.labels, { ...selector.matchLabels, team: 'backup' });
          assert.equal(selector.matchLabels['app.kubernetes.io/name'], 'disklift');
        },
      ],
      [
        'keeps names that look like numbers as text',
        { image: IMAGE, volumes: [{ name: '1', claimName: '2' }] },
        (manifests) => assert.equal(podOf(manifests).volumes[0]?.persistentVolumeClaim.claimName, '2'),
      ],
      ['lets an umbrella chart set globals', { ...MINIMAL, global: { anything: 1 } }, (manifests) => podOf(manifests)],
      [
        'makes a Job instead of a Deployment for one export, which releases its claim at the end',
        { image: IMAGE, volumes: [{ ...FEDORA, once: 'fedora-nightly' }] },
        (manifests) => {
          assert.deepEqual(deploymentsOf(manifests), []);
          const [job, ...others] = ofKind<Workload>(manifests, 'Job');
          assert.deepEqual(others, []);
          assert.match(job?.metadata.name ?? '', /^nightly-disklift-fedora-nightly-[0-9a-f]{8}$/);
          const { restartPolicy, containers } = job?.spec.template.spec ?? assert.fail();
          assert.equal(restartPolicy, 'Never');
          assert.deepEqual(containers[0]?.args, ['sidecar', '--volume', 'fedora-root=/disks', '--once', 'fedora-nightly']);
          assert.equal(containers[0]?.readinessProbe, undefined);
        },
      ],
      [
        'truncates the name of a Job to the length of a label',
        { image: IMAGE, volumes: [{ ...FEDORA, once: `${'a'.repeat(45)}.${'b'.repeat(60)}` }] },
        (manifests) => {
          const name = ofKind(manifests, 'Job')[0]?.metadata.name ?? '';
          assert.match(name, /^nightly-disklift-a{37}-[0-9a-f]{8}$/);
          assert.equal(name.length, 63);
        },
      ],
      [
        'accepts the volumes as a map by name, and leaves out those that are null or not enabled',
        {
          image: IMAGE,
          volumes: {
            windows: { claimName: 'windows-root', mode: 'Block' },
            fedora: { claimName: 'fedora-root' },
            gone: null,
            off: { claimName: 'a', enabled: false },
          },
        },
        (manifests) =>
          assert.deepEqual(
            deploymentsOf(manifests).map(({ metadata, spec }) => [metadata.name, spec.template.spec.containers[0]?.args?.[2]]),
            [
              ['nightly-disklift-fedora', 'fedora-root=/disks'],
              ['nightly-disklift-windows', 'windows-root=/dev/vmdisk'],
            ],
          ),
      ],
      [
        'passes settings as environment variables, followed by further variables',
        {
          ...MINIMAL,
          config: { maxConcurrentExports: 4, seriesRetentionSeconds: 3_000_000, allowDestination: ['a.example', '::1'], logLevel: 'debug' },
          env: [{ name: 'HTTPS_PROXY', value: 'http://proxy.example' }],
        },
        (manifests) =>
          assert.partialDeepStrictEqual(environmentOf(manifests), {
            DISKLIFT_MAX_CONCURRENT_EXPORTS: '4',
            DISKLIFT_SERIES_RETENTION_SECONDS: '3000000',
            DISKLIFT_ALLOW_DESTINATION: 'a.example,::1',
            DISKLIFT_LOG_LEVEL: 'debug',
            HTTPS_PROXY: 'http://proxy.example',
          }),
      ],
      [
        'permits deleting exports and listing pods only for features that are on, and only in the namespace',
        { ...MINIMAL, features: { ttl: false, inUse: false } },
        (manifests) => {
          assert.ok(!permitted(manifests).some((permission) => /^diskexports delete|^pods/.test(permission)));
          assert.deepEqual(
            manifests.filter(({ kind }) => kind.startsWith('Cluster')),
            [],
          );
        },
      ],
      [
        'permits reading only the named Secrets and ConfigMaps',
        { ...MINIMAL, rbac: { secretNames: ['a', 'b'], configMapNames: ['c'] } },
        (manifests) =>
          assert.deepEqual(
            permitted(manifests).filter((permission) => /^(secrets|configmaps)/.test(permission)),
            ['secrets get a b', 'configmaps get c'],
          ),
      ],
      [
        'uses an existing ServiceAccount, and gives it no rights on request',
        { ...MINIMAL, serviceAccount: { create: false, name: 'backup' }, rbac: { create: false } },
        (manifests) => {
          assert.deepEqual(
            manifests.map(({ kind }) => kind),
            ['Deployment'],
          );
          assert.equal(podOf(manifests).serviceAccountName, 'backup');
        },
      ],
      [
        'gives the kubelet the probes of the sidecar',
        MINIMAL,
        (manifests) => {
          const [container] = podOf(manifests).containers;
          for (const [probe, path] of [
            [container?.livenessProbe, '/livez'],
            [container?.readinessProbe, '/readyz'],
          ])
            assert.partialDeepStrictEqual(probe, { httpGet: { path, port: 'http' } });
        },
      ],
      [
        'serves plain HTTP without tokens by default',
        MINIMAL,
        (manifests) => {
          assert.ok(!Object.keys(environmentOf(manifests)).some((name) => name.startsWith('DISKLIFT_LISTEN')));
          assert.deepEqual(podOf(manifests).containers[0]?.livenessProbe, {
            httpGet: { path: '/livez', port: 'http' },
            periodSeconds: 20,
            timeoutSeconds: 5,
          });
        },
      ],
      [
        'serves HTTPS with the token of a Secret, and configures the kubelet and Prometheus for it',
        {
          ...MINIMAL,
          http: { certificateSecretName: 'tls', tokenSecretName: 'reader' },
          podMonitor: { enabled: true, tlsConfig: { serverName: 'disklift.example' } },
        },
        (manifests) => {
          assert.partialDeepStrictEqual(environmentOf(manifests), {
            DISKLIFT_LISTEN_CERTIFICATE_FILE: '/etc/disklift/certificate/tls.crt',
            DISKLIFT_LISTEN_KEY_FILE: '/etc/disklift/certificate/tls.key',
            DISKLIFT_LISTEN_TOKEN_FILE: '/etc/disklift/token/token',
          });
          const { containers, volumes } = podOf(manifests);
          // Whole directories, because a file that is mounted alone is never updated.
          assert.deepEqual(containers[0]?.volumeMounts, [
            { name: 'disks', mountPath: '/disks', readOnly: true },
            { name: 'certificate', mountPath: '/etc/disklift/certificate', readOnly: true },
            { name: 'token', mountPath: '/etc/disklift/token', readOnly: true },
          ]);
          const itemsOf = (...names: string[]) => names.map((name) => ({ key: name, path: name }));
          assert.deepEqual(volumes.slice(1), [
            { name: 'certificate', secret: { secretName: 'tls', items: itemsOf('tls.crt', 'tls.key') } },
            { name: 'token', secret: { secretName: 'reader', items: itemsOf('token') } },
          ]);
          for (const probe of [containers[0]?.livenessProbe, containers[0]?.readinessProbe])
            assert.partialDeepStrictEqual(probe, { httpGet: { scheme: 'HTTPS' } });
          assert.deepEqual(endpointOf(manifests), {
            scheme: 'https',
            tlsConfig: { serverName: 'disklift.example' },
            authorization: { credentials: { name: 'reader', key: 'token' } },
          });
        },
      ],
      [
        'also mounts the token of a Secret beside a device',
        { image: IMAGE, volumes: [WINDOWS], http: { tokenSecretName: 'reader' } },
        (manifests) => {
          const [container] = podOf(manifests).containers;
          assert.deepEqual(container?.volumeMounts, [{ name: 'token', mountPath: '/etc/disklift/token', readOnly: true }]);
          assert.deepEqual(container?.volumeDevices, [{ name: 'disks', devicePath: '/dev/vmdisk' }]);
        },
      ],
      [
        'lets the API server review tokens without rights beyond the namespace, and gives Prometheus a token',
        {
          ...MINIMAL,
          http: { tokenReview: true },
          podMonitor: { enabled: true, authorization: { credentials: { name: 'prometheus', key: 'token' } } },
          config: { logFormat: 'text' },
        },
        (manifests) => {
          assert.partialDeepStrictEqual(environmentOf(manifests), { DISKLIFT_LISTEN_TOKEN_REVIEW: 'true', DISKLIFT_LOG_FORMAT: 'text' });
          assert.equal(podOf(manifests).volumes.length, 1);
          assert.ok(!manifests.some(({ kind }) => kind.startsWith('Cluster')));
          assert.deepEqual(endpointOf(manifests), { authorization: { credentials: { name: 'prometheus', key: 'token' } } });
        },
      ],
      [
        'closes the pods by a NetworkPolicy, and lets Prometheus find them',
        { ...MINIMAL, networkPolicy: { enabled: true }, podMonitor: { enabled: true, labels: { release: 'prometheus' } } },
        (manifests) => {
          const labels = { 'app.kubernetes.io/name': 'disklift', 'app.kubernetes.io/instance': 'nightly' };
          const [policy] = ofKind<Manifest & { spec: object }>(manifests, 'NetworkPolicy');
          assert.deepEqual(policy?.spec, { podSelector: { matchLabels: labels }, policyTypes: ['Ingress'], ingress: [] });
          const [monitor] = ofKind<Manifest & { spec: object }>(manifests, 'PodMonitor');
          assert.equal(monitor?.metadata.labels?.release, 'prometheus');
          const podMetricsEndpoints = [{ port: 'http', path: '/metrics', interval: '30s' }];
          assert.deepEqual(monitor?.spec, { selector: { matchLabels: labels }, podMetricsEndpoints });
        },
      ],
    ];
    for (const [title, values, check] of accepted) {
      it(title, async () => {
        const manifests = await render(values);
        check(manifests);
        for (const manifest of manifests)
          if (manifest.kind === 'Deployment' || manifest.kind === 'Job')
            assertRestricted((manifest as Workload).spec.template.spec, { token: true });
      });
    }

    it('sets no user for OpenShift, where the namespace has one', async () => {
      const deployments = deploymentsOf(await render({ image: IMAGE, volumes: [FEDORA, WINDOWS], securityContext: { mode: 'OpenShift' } }));
      assert.equal(deployments.length, 2);
      for (const { spec } of deployments) assertRestricted(spec.template.spec, { mode: 'OpenShift', token: true });
    });

    it('sets the SELinux level of the disk', async () => {
      const level = 's0:c12,c34';
      const spec = podOf(await render({ ...MINIMAL, securityContext: { seLinuxLevel: level } }));
      assertRestricted(spec, { seLinuxLevel: level, token: true });
      const seLinuxChangePolicy = 'Recursive';
      const recursive = podOf(await render({ ...MINIMAL, securityContext: { seLinuxLevel: level, seLinuxChangePolicy } }));
      assert.deepEqual(recursive.securityContext, { ...spec.securityContext, seLinuxChangePolicy });
    });

    for (const [title, values, message] of REFUSED_VALUES) {
      it(`refuses ${title}`, async () => {
        const { code, stdout, stderr } = await template(values);
        assert.notEqual(code, 0, stdout.toString());
        assert.match(stderr, message);
      });
    }

    it('refuses a cluster that is too old', async () => {
      const { code, stderr } = await template(MINIMAL, '--kube-version', '1.28.9');
      assert.notEqual(code, 0);
      assert.match(stderr, />=1\.29\.0-0/);
    });
  });
});

function packageVersion(): string {
  return (JSON.parse(readFileSync(path.join(ROOT, 'package.json'), 'utf8')) as { version: string }).version;
}
