/**
 * The controller in the chart: its rights, its Deployment, the template of its Jobs, and what is around its pods.
 * test/cluster/stop-controller runs the Job that removes it.
 */

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { CONTROLLER_SETTINGS } from '../../src/config/controller-settings.ts';
import { type JobTemplateFile, parseJobTemplate } from '../../src/config/job-template.ts';
import { environmentVariableOf } from '../../src/config/settings.ts';
import { CHART, CONTROLLER, EVERYTHING, FEDORA, MINIMAL, ofKind, parseManifests } from '../helpers/chart.ts';
import { assertRestricted, isOfHook, type Manifest, type PodSpec, type Role, type Workload } from '../helpers/helm-pods.ts';
import { helmTools } from '../helpers/helm-tools.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

type Rules = Role['rules'];
type Binding = Manifest & { roleRef: { kind: string; name: string }; subjects: object[] };

const NAME = 'nightly-disklift-controller';
const HOOK = 'nightly-disklift-stop-controller';
const NAMED = { ...CONTROLLER, controller: { enabled: true, namespaces: ['vms', 'more-vms'] } };

/** Kinds that belong to no namespace, beside ClusterRoles to bind. */
const CLUSTER_SCOPED = ['storageclasses', 'volumesnapshotclasses', 'volumesnapshotcontents', 'snapshotmetadataservices'];

/** `RESOURCE VERB`, with the names that a right is limited to. */
function rightsOf(rules: Rules): string[] {
  return rules
    .flatMap(({ resources, verbs, resourceNames = [] }) =>
      resources.flatMap((resource) => verbs.map((verb) => [resource, verb, ...resourceNames].join(' '))),
    )
    .sort();
}

describe('the controller in the chart', function () {
  this.timeout(60_000);
  const inTempDir = useTempDir();

  const rendered = new Map<string, Promise<Manifest[]>>();

  function render(values: object): Promise<Manifest[]> {
    const key = JSON.stringify(values);
    const found = rendered.get(key) ?? runHelm(values);
    rendered.set(key, found);
    return found;
  }

  async function runHelm(values: object): Promise<Manifest[]> {
    const file = inTempDir('values.json');
    writeFileSync(file, JSON.stringify(values));
    const { code, stdout, stderr } = await helmTools().helm('template', 'nightly', CHART, '--namespace', 'backup', '--values', file);
    assert.equal(code, 0, stderr);
    return parseManifests(stdout.toString());
  }

  const own = async (values: object) => (await render(values)).filter(({ metadata }) => !isOfHook(metadata));
  const hooks = async (values: object) => (await render(values)).filter(({ metadata }) => isOfHook(metadata));

  function named<T extends Manifest>(manifests: Manifest[], kind: string, name: string, namespace?: string): T {
    const found = ofKind<T>(manifests, kind).filter(
      ({ metadata }) => metadata.name === name && (namespace === undefined || metadata.namespace === namespace),
    );
    assert.equal(found.length, 1, `${kind} ${name}`);
    return found[0] as T;
  }

  function deploymentOf(manifests: Manifest[]): Workload {
    return named<Workload>(manifests, 'Deployment', NAME);
  }

  const environmentOf = ({ containers }: PodSpec) => Object.fromEntries((containers[0]?.env ?? []).map(({ name, value }) => [name, value]));

  /** As the controller reads it, which refuses unknown fields. */
  function templateOf(manifests: Manifest[]): JobTemplateFile {
    const { data } = named<Manifest & { data: Record<string, string> }>(manifests, 'ConfigMap', NAME);
    return parseJobTemplate('job-template.yaml', (file) => data[file] ?? assert.fail(file));
  }

  it('is off by default, and then nothing reaches beyond the namespace', async () => {
    const manifests = await render(MINIMAL);
    assert.deepEqual(
      manifests.filter(({ kind, metadata }) => kind.startsWith('Cluster') || /controller|worker/.test(metadata.name)),
      [],
    );
  });

  it('needs no volumes, and without them there is neither a sidecar nor its rights', async () => {
    const objects = (await own(CONTROLLER)).map(({ kind, metadata }) => `${kind} ${metadata.name}`).sort();
    assert.deepEqual(objects, [
      `ClusterRole ${NAME}`,
      'ClusterRole nightly-disklift-worker',
      `ClusterRoleBinding ${NAME}`,
      `ConfigMap ${NAME}`,
      `Deployment ${NAME}`,
      `Role ${NAME}-leader`,
      `RoleBinding ${NAME}-leader`,
      `ServiceAccount ${NAME}`,
    ]);
  });

  describe('the rights', () => {
    it('give the workers the rights of a sidecar that deletes no exports, and those do not grow', async () => {
      const features = { ttl: false, inUse: true };
      const values = { ...CONTROLLER, volumes: [FEDORA], features, rbac: { secretNames: ['keys'] } };
      const manifests = await own(values);
      const { rules } = named<Role>(manifests, 'Role', 'nightly-disklift');
      // Backups of KubeVirt and snapshots with metadata, which a sidecar cannot export.
      const ofWorkersOnly = [
        { apiGroups: ['backup.kubevirt.io'], resources: ['virtualmachinebackups', 'virtualmachinebackuptrackers'], verbs: ['get'] },
        { apiGroups: ['kubevirt.io'], resources: ['virtualmachines'], verbs: ['get'] },
        { apiGroups: ['snapshot.storage.k8s.io'], resources: ['volumesnapshots'], verbs: ['get'] },
      ];
      const ofWorkers = [...rules, ...ofWorkersOnly];
      assert.deepEqual(named<Role>(manifests, 'ClusterRole', 'nightly-disklift-worker').rules, ofWorkers);
      const withTtl = await own({ ...values, features: { ttl: true, inUse: true } });
      assert.deepEqual(named<Role>(withTtl, 'ClusterRole', 'nightly-disklift-worker').rules, ofWorkers);
      assert.notDeepEqual(named<Role>(withTtl, 'Role', 'nightly-disklift').rules, rules);
      const alone = await own({ ...MINIMAL, features, rbac: { secretNames: ['keys'] } });
      assert.deepEqual(rules, named<Role>(alone, 'Role', 'nightly-disklift').rules);
    });

    it('have no wildcard, read no Secret, and bind one ClusterRole only', async () => {
      const { rules } = named<Role>(await own(CONTROLLER), 'ClusterRole', NAME);
      const rights = rightsOf(rules);
      assert.deepEqual(
        rights.filter((right) => right.includes('*') || /secrets|escalate|impersonate|exec|token/.test(right)),
        [],
      );
      assert.deepEqual(
        rights.filter((right) => /^clusterroles|^roles/.test(right)),
        ['clusterroles bind nightly-disklift-worker'],
      );
      assert.deepEqual(
        rights.filter((right) => /^(serviceaccounts|rolebindings) delete/.test(right)),
        ['rolebindings delete disklift-worker', 'serviceaccounts delete disklift-worker'],
      );
    });

    it('in named namespaces are those of the whole cluster, by a Role in each, and only classes and contents are cluster-wide', async () => {
      const everywhere = rightsOf(named<Role>(await own(CONTROLLER), 'ClusterRole', NAME).rules);
      const manifests = await own(NAMED);
      const { rules } = named<Role>(manifests, 'ClusterRole', NAME);
      assert.deepEqual(
        rules.flatMap(({ resources }) => resources),
        CLUSTER_SCOPED,
      );
      for (const namespace of ['vms', 'more-vms']) {
        const role = named<Role>(manifests, 'Role', NAME, namespace);
        assert.deepEqual([...rightsOf(role.rules), ...rightsOf(rules)].sort(), everywhere);
        const { roleRef, subjects } = named<Binding>(manifests, 'RoleBinding', NAME, namespace);
        assert.deepEqual([roleRef.kind, roleRef.name], ['Role', NAME]);
        assert.deepEqual(subjects, [{ kind: 'ServiceAccount', name: NAME, namespace: 'backup' }]);
      }
    });

    it('on Leases are in the namespace of the release, by name', async () => {
      const { metadata, rules } = named<Role>(await own(CONTROLLER), 'Role', `${NAME}-leader`);
      assert.equal(metadata.namespace, 'backup');
      assert.deepEqual(rightsOf(rules), ['leases create', ...['delete', 'get', 'update'].map((verb) => `leases ${verb} ${NAME}`)]);
    });

    it('are left to the user on request, and so is the account', async () => {
      const values = { ...CONTROLLER, rbac: { create: false }, serviceAccount: { create: false, name: 'backup' } };
      const manifests = await render(values);
      assert.deepEqual(manifests.map(({ kind }) => kind).sort(), ['ConfigMap', 'Deployment']);
      assert.equal(deploymentOf(manifests).spec.template.spec.serviceAccountName, 'backup');
    });
  });

  describe('the Deployment', () => {
    it('has two pods that prefer different nodes, which the selector of no sidecar matches', async () => {
      const manifests = await own({ ...CONTROLLER, volumes: [FEDORA] });
      const { replicas, selector, template } = deploymentOf(manifests).spec;
      assert.equal(replicas, 2);
      assert.deepEqual(template.metadata.labels, selector.matchLabels);
      const [{ podAffinityTerm }] = (template.spec.affinity as Affinity).podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution;
      assert.deepEqual(podAffinityTerm, { topologyKey: 'kubernetes.io/hostname', labelSelector: { matchLabels: selector.matchLabels } });
      const sidecar = named<Workload>(manifests, 'Deployment', 'nightly-disklift-fedora').spec;
      assert.ok('disklift.dev/volume' in sidecar.selector.matchLabels && !('disklift.dev/volume' in selector.matchLabels));
    });

    for (const [title, values, mode] of [
      ['by default', CONTROLLER, 'KubeVirt'],
      ['with everything', EVERYTHING, 'KubeVirt'],
      ['for OpenShift', { ...EVERYTHING, securityContext: { mode: 'OpenShift', seLinuxLevel: 's0:c1,c2' } }, 'OpenShift'],
    ] as const)
      it(`has restricted pods with probes, without a claim ${title}`, async () => {
        const { spec } = deploymentOf(await own(values)).spec.template;
        const [config, ...others] = spec.volumes as unknown as { name: string; configMap?: object }[];
        assert.deepEqual(config, { name: 'controller', configMap: { name: NAME } });
        assertRestricted({ ...spec, volumes: others as unknown as PodSpec['volumes'] }, { mode, token: true });
        assert.ok(!JSON.stringify(spec.volumes).includes('persistentVolumeClaim'));
        for (const [probe, place] of [
          [spec.containers[0]?.livenessProbe, '/livez'],
          [spec.containers[0]?.readinessProbe, '/readyz'],
        ])
          assert.partialDeepStrictEqual(probe, { httpGet: { path: place, port: 'http' } });
      });

    it('passes the values as settings', async () => {
      const { spec } = deploymentOf(await own(EVERYTHING)).spec.template;
      assert.deepEqual(spec.containers[0]?.args, ['controller']);
      assert.partialDeepStrictEqual(environmentOf(spec), {
        DISKLIFT_NAMESPACES: 'vms',
        DISKLIFT_LEADER_ELECTION_LEASE: NAME,
        DISKLIFT_WORKER_IMAGE: 'registry.example/disklift:1.10',
        DISKLIFT_WORKER_IMAGE_PULL_POLICY: 'Always',
        DISKLIFT_WORKER_CLUSTER_ROLE: 'nightly-disklift-worker',
        DISKLIFT_MAX_CONCURRENT_JOBS: '40',
        DISKLIFT_MAX_CONCURRENT_JOBS_PER_NAMESPACE: '5',
        DISKLIFT_MAX_CONCURRENT_JOBS_PER_NODE: '4',
        DISKLIFT_MAX_CONCURRENT_JOBS_PER_HOST: '2',
        DISKLIFT_POD_START_TIMEOUT_SECONDS: '1200',
        DISKLIFT_LOG_LEVEL: 'debug',
        DISKLIFT_LISTEN_TOKEN_FILE: '/etc/disklift/token/token',
        HTTPS_PROXY: 'http://proxy.example:3128',
      });
      assert.equal(spec.priorityClassName, 'system-cluster-critical');
      const known = [...Object.keys(CONTROLLER_SETTINGS).map(environmentVariableOf), ...EVERYTHING.env.map(({ name }) => name)];
      assert.deepEqual(
        Object.keys(environmentOf(spec)).filter((name) => !known.includes(name)),
        [],
      );
      assert.equal(environmentOf(deploymentOf(await own(CONTROLLER)).spec.template.spec).DISKLIFT_NAMESPACES, undefined);
    });

    it('replaces its pods when the template of the Jobs changes', async () => {
      const annotationsWith = async (values: object) =>
        deploymentOf(await own({ ...CONTROLLER, ...values })).spec.template.metadata.annotations?.['disklift.dev/job-template'];
      const plain = await annotationsWith({});
      assert.match(plain ?? '', /^[0-9a-f]{16}$/);
      assert.notEqual(await annotationsWith({ config: { allowDestination: ['a.example'] } }), plain);
      assert.equal(await annotationsWith({ dashboard: { enabled: true } }), plain);
    });
  });

  describe('the template of the Jobs', () => {
    it('has the settings of the sidecar, and its own parts', async () => {
      assert.deepEqual(templateOf(await own({ ...EVERYTHING, http: {} })), {
        labels: { team: 'backup', 'kueue.x-k8s.io/queue-name': 'backups' },
        annotations: { note: 'y' },
        nodeSelector: { zone: '2' },
        tolerations: [{ key: 'backup', operator: 'Exists' }],
        priorityClassName: 'low',
        resources: { requests: { cpu: '1' } },
        imagePullSecrets: [{ name: 'registry' }],
        securityContext: { mode: 'KubeVirt', seLinuxLevel: '', seLinuxChangePolicy: '' },
        env: [
          { name: 'DISKLIFT_ALLOW_AMBIENT_CREDENTIALS', value: 'true' },
          { name: 'DISKLIFT_ALLOW_DESTINATION', value: '10.0.0.0/8,*.example' },
          { name: 'DISKLIFT_LOG_LEVEL', value: 'debug' },
          { name: 'DISKLIFT_MAX_CONCURRENT_EXPORTS', value: '4' },
          { name: 'HTTPS_PROXY', value: 'http://proxy.example:3128' },
          { name: 'NO_PROXY', value: 'backup.example' },
        ],
      });
    });

    it('places the pods as those of the sidecar by default', async () => {
      const { nodeSelector, tolerations, resources } = EVERYTHING as { nodeSelector: object; tolerations: object; resources?: object };
      assert.equal(resources, undefined);
      const found = templateOf(await own({ ...EVERYTHING, controller: { enabled: true } }));
      assert.deepEqual([found.nodeSelector, found.tolerations], [nodeSelector, tolerations]);
      assert.partialDeepStrictEqual(found.resources, { limits: { memory: '512Mi' } });
    });

    it('closes the port of the workers where the port of the sidecar is protected', async () => {
      const closed = { name: 'DISKLIFT_LISTEN_HOST', value: '127.0.0.1' };
      const isClosedWith = async (http: object) =>
        JSON.stringify(templateOf(await own({ ...CONTROLLER, http })).env).includes(JSON.stringify(closed));
      assert.equal(await isClosedWith({}), false);
      for (const http of [{ tokenSecretName: 'a' }, { certificateSecretName: 'a' }, { tokenReview: true }])
        assert.equal(await isClosedWith(http), true, JSON.stringify(http));
    });
  });

  describe('around the pods', () => {
    it('a NetworkPolicy closes the controller, and one in each named namespace closes the workers', async () => {
      const networkPolicy = {
        enabled: true,
        egress: [{ to: [{ ipBlock: { cidr: '10.0.0.0/8' } }] }],
        controllerEgress: [{ ports: [{ port: 6443 }] }],
      };
      const policies = ofKind<Manifest & { spec: Policy }>(await own({ ...NAMED, volumes: [FEDORA], networkPolicy }), 'NetworkPolicy');
      const facts = policies.map(({ metadata, spec }) => [metadata.namespace, metadata.name, spec.egress?.at(-1)]);
      const [toApiServer, toDestinations] = [networkPolicy.controllerEgress[0], networkPolicy.egress[0]];
      assert.deepEqual(facts, [
        ['backup', 'nightly-disklift', toDestinations],
        ['backup', NAME, toApiServer],
        ['vms', 'nightly-disklift-worker', toDestinations],
        ['more-vms', 'nightly-disklift-worker', toDestinations],
      ]);
      const [ofSidecars, ofController, ofWorkers] = policies.map(({ spec }) => spec.podSelector);
      // NetworkPolicies add up.
      const notController = [{ key: 'app.kubernetes.io/component', operator: 'NotIn', values: ['controller'] }];
      assert.deepEqual(ofSidecars?.matchExpressions, notController);
      assert.equal(ofController?.matchLabels['app.kubernetes.io/component'], 'controller');
      assert.deepEqual(ofWorkers, { matchLabels: { 'app.kubernetes.io/managed-by': 'disklift-controller' } });
    });

    it('Prometheus finds the workers in all namespaces or the named ones, once they run', async () => {
      const monitor = async (values: object) =>
        named<Manifest & { spec: object }>(await own({ ...values, podMonitor: { enabled: true } }), 'PodMonitor', 'nightly-disklift-worker')
          .spec;
      const podMetricsEndpoints = [
        {
          ...{ port: 'http', path: '/metrics', interval: '30s' },
          relabelings: [{ sourceLabels: ['__meta_kubernetes_pod_phase'], regex: 'Running', action: 'keep' }],
        },
      ];
      const selector = { matchLabels: { 'app.kubernetes.io/managed-by': 'disklift-controller' } };
      assert.deepEqual(await monitor(CONTROLLER), { namespaceSelector: { any: true }, selector, podMetricsEndpoints });
      assert.partialDeepStrictEqual(await monitor(NAMED), { namespaceSelector: { matchNames: ['vms', 'more-vms'] } });
    });
  });

  describe('the hook that removes it', () => {
    it('has rights on its own Deployment by name, and on what carries the label of a controller only list and delete', async () => {
      const manifests = await hooks(CONTROLLER);
      assert.deepEqual(rightsOf(named<Role>(manifests, 'Role', HOOK).rules), [`deployments/scale patch ${NAME}`, 'pods list']);
      const { rules } = named<Role>(manifests, 'ClusterRole', HOOK);
      const deletable = ['configmaps', 'jobs', 'persistentvolumeclaims', 'virtualmachinesnapshots', 'volumesnapshots'];
      assert.deepEqual(
        rightsOf(rules),
        [
          ...deletable.flatMap((each) => [`${each} list`, `${each} delete`]),
          ...['serviceaccounts', 'rolebindings'].flatMap((each) => [`${each} list`, `${each} delete disklift-worker`]),
          'pods list',
        ].sort(),
      );
      assert.deepEqual(named<Workload>(manifests, 'Job', HOOK).spec.template.spec.containers[0]?.args, [
        'stop-controller',
        ...['--namespace', 'backup'],
        ...['--deployment', NAME],
        '--selector',
        'app.kubernetes.io/component=controller,app.kubernetes.io/instance=nightly,app.kubernetes.io/name=disklift',
      ]);
    });

    it('has its rights in the named namespaces only', async () => {
      const manifests = await hooks(NAMED);
      assert.deepEqual(
        manifests.filter(({ kind }) => kind.startsWith('Cluster')),
        [],
      );
      for (const namespace of NAMED.controller.namespaces) {
        const { rules } = named<Role>(manifests, 'Role', `${HOOK}-workers`, namespace);
        assert.deepEqual(rules, named<Role>(await hooks(CONTROLLER), 'ClusterRole', HOOK).rules);
        assert.deepEqual(named<Binding>(manifests, 'RoleBinding', `${HOOK}-workers`, namespace).subjects, [
          { kind: 'ServiceAccount', name: HOOK, namespace: 'backup' },
        ]);
      }
      const args = named<Workload>(manifests, 'Job', HOOK).spec.template.spec.containers[0]?.args;
      assert.deepEqual(args?.slice(-4), ['--serves', 'vms', '--serves', 'more-vms']);
    });

    it('exists only while the release is uninstalled, with its rights before its Job, in a restricted pod', async () => {
      const manifests = (await hooks(EVERYTHING)).filter(({ metadata }) => metadata.name.startsWith(HOOK));
      for (const { kind, metadata } of manifests)
        assert.partialDeepStrictEqual(metadata.annotations, {
          'helm.sh/hook': 'pre-delete',
          'helm.sh/hook-weight': kind === 'Job' ? '0' : '-1',
          'helm.sh/hook-delete-policy': 'before-hook-creation,hook-succeeded,hook-failed',
        });
      const { spec } = named<Workload>(manifests, 'Job', HOOK).spec.template;
      assertRestricted({ ...spec, volumes: [] }, { token: true });
      assert.equal(spec.containers[0]?.env, undefined);
    });

    for (const [title, values] of [
      ['when it is off', { uninstallHook: { enabled: false } }],
      ['where the chart may make no Role', { rbac: { create: false } }],
    ] as const)
      it(`is not rendered ${title}`, async () => {
        assert.deepEqual(await hooks({ ...CONTROLLER, ...values }), []);
      });
  });
});

interface Affinity {
  podAntiAffinity: { preferredDuringSchedulingIgnoredDuringExecution: [{ podAffinityTerm: object }] };
}

interface Policy {
  podSelector: { matchLabels: Record<string, string>; matchExpressions?: object[] };
  egress?: object[];
}
