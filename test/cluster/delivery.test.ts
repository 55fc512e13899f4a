/** The manifests and the chart on a real API server: every object as kubectl applies it, and the rights of the Role. */

import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { CHART, CONTROLLER, EVERYTHING, FEDORA, IMAGE, MANIFESTS, parseManifests, readManifests, WINDOWS } from '../helpers/chart.ts';
import type { Manifest } from '../helpers/helm-pods.ts';
import { helmTools } from '../helpers/helm-tools.ts';
import { type ApiServer, startApiServer } from './api-server.ts';
import { installCrd } from './install-crd.ts';
import { requireBinaries } from './kubernetes-binaries.ts';
import { installOperatorCrds, OPERATOR_KINDS } from './operator-crds.ts';

const VERBS = ['get', 'list', 'watch', 'create', 'update', 'patch', 'delete', 'deletecollection'];

/** All rights of the sidecar's ServiceAccount on these resources. */
const PERMITTED: [group: string, resource: string, verbs: string[]][] = [
  ['disklift.dev', 'diskexports', ['get', 'list', 'watch', 'patch', 'delete']],
  ['disklift.dev', 'diskexports/status', ['patch']],
  ['disklift.dev', 'diskexports/finalizers', []],
  ['coordination.k8s.io', 'leases', ['get', 'create', 'update', 'delete']],
  ['', 'events', ['create', 'patch']],
  ['', 'secrets', ['get']],
  ['', 'configmaps', ['get']],
  ['', 'pods', ['list']],
  ['', 'pods/exec', []],
  ['', 'persistentvolumeclaims', []],
  ['', 'namespaces', ['get']],
  ['', 'nodes', []],
  ['', 'serviceaccounts/token', []],
  ['apps', 'deployments', []],
  ['rbac.authorization.k8s.io', 'roles', []],
];

const TOKEN_OF_CLUSTER = {
  image: IMAGE,
  volumes: [FEDORA],
  http: { certificateSecretName: 'disklift-tls', tokenReview: true },
  podMonitor: {
    enabled: true,
    tlsConfig: { insecureSkipVerify: true },
    authorization: { credentials: { name: 'prometheus-token', key: 'token' } },
  },
};

describe('the manifests and the chart on an API server', function () {
  this.timeout(90_000);
  let api: ApiServer;
  let directory: string;
  /** Kinds that this API server does not have. */
  let unknownKinds: readonly string[];

  before(async function () {
    api = await startApiServer(requireBinaries(this), { controllerManager: true });
    directory = mkdtempSync(path.join(os.tmpdir(), 'disklift-test-'));
    await installCrd(api);
    await installCrd(api, 'crd-schedules.yaml');
    unknownKinds = (await installOperatorCrds(api)) ? [] : OPERATOR_KINDS;
    await kubectl('create', 'namespace', 'vms');
    // A violation is refused in a pod, and causes a warning in an object that makes pods.
    const levels = ['enforce', 'warn'].map((mode) => `pod-security.kubernetes.io/${mode}=restricted`);
    await kubectl('label', 'namespace', 'vms', ...levels);
    await apply(readManifests('rbac.yaml'));
  });

  after(async () => {
    await api?.stop();
    if (directory) rmSync(directory, { recursive: true });
  });

  async function kubectl(...args: string[]): Promise<void> {
    const { code, stderr } = await api.kubectl(...args);
    assert.equal(code, 0, stderr);
    assert.equal(stderr, '', 'it warns of nothing');
  }

  async function apply(manifests: readonly Manifest[], ...flags: string[]): Promise<void> {
    const file = path.join(directory, 'objects.json');
    const items = manifests.filter(({ kind }) => !unknownKinds.includes(kind));
    writeFileSync(file, JSON.stringify({ apiVersion: 'v1', kind: 'List', items }));
    // `kubectl apply` takes no object without a name.
    const command = items.some(({ metadata }) => metadata.name === undefined) ? 'create' : 'apply';
    await kubectl(command, '--namespace', 'vms', '--filename', file, '--validate=strict', ...flags);
  }

  const files = readdirSync(MANIFESTS, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.yaml'));
  for (const name of files.filter((file) => !/(^|\/)(crd|kustomization|prometheus-rules)/.test(file)))
    it(`accepts ${name} unchanged`, () => apply(readManifests(name), '--dry-run=server'));

  const values: [title: string, values: object][] = [
    ['with everything it can make', EVERYTHING],
    ['for OpenShift', { image: IMAGE, volumes: [FEDORA, WINDOWS], securityContext: { mode: 'OpenShift' } }],
    ['for a Prometheus with a token of the cluster', TOKEN_OF_CLUSTER],
    ['with a controller for all namespaces', CONTROLLER],
    ['without features', { image: IMAGE, volumes: [FEDORA], features: { ttl: false, inUse: false } }],
  ];
  async function render(values: object): Promise<Manifest[]> {
    const file = path.join(directory, 'values.json');
    writeFileSync(file, JSON.stringify(values));
    const { code, stdout, stderr } = await helmTools().helm('template', 'nightly', CHART, '--namespace', 'vms', '--values', file);
    assert.equal(code, 0, stderr);
    return parseManifests(stdout.toString());
  }

  for (const [title, object] of values)
    it(`accepts the chart's objects ${title}`, async () => {
      await apply(await render(object), '--dry-run=server');
    });

  it('refuses fields that an operator does not define', async function () {
    if (unknownKinds.length > 0) this.skip();
    const monitor = (await render(TOKEN_OF_CLUSTER)).filter(({ kind }) => kind === 'PodMonitor');
    assert.equal(monitor.length, 1);
    const text = JSON.stringify(monitor).replace('"insecureSkipVerify"', '"insecure"');
    await assert.rejects(
      apply(JSON.parse(text), '--dry-run=server'),
      /unknown field "insecure" in com\.coreos\.monitoring\.v1\.PodMonitor/,
    );
  });

  describe('the Role', () => {
    async function mayDo(namespace: string, verb: string, group: string, resource: string): Promise<boolean> {
      const [name, subresource] = resource.split('/');
      const { status, body } = await api.request('/apis/authorization.k8s.io/v1/subjectaccessreviews', {
        method: 'POST',
        body: {
          apiVersion: 'authorization.k8s.io/v1',
          kind: 'SubjectAccessReview',
          spec: {
            user: 'system:serviceaccount:vms:disklift',
            groups: ['system:serviceaccounts', 'system:serviceaccounts:vms', 'system:authenticated'],
            resourceAttributes: { namespace, verb, group, resource: name, subresource },
          },
        },
      });
      assert.equal(status, 201, JSON.stringify(body));
      return body.status.allowed;
    }

    for (const [group, resource, verbs] of PERMITTED)
      it(`permits ${verbs.join(', ') || 'nothing'} of ${resource}, and nothing elsewhere`, async () => {
        const allowed: string[] = [];
        for (const verb of VERBS) {
          if (await mayDo('vms', verb, group, resource)) allowed.push(verb);
          assert.ok(!(await mayDo('default', verb, group, resource)), `${verb} in another namespace`);
          assert.ok(!(await mayDo('', verb, group, resource)), `${verb} in all namespaces`);
        }
        assert.deepEqual(
          allowed,
          VERBS.filter((verb) => verbs.includes(verb)),
        );
      });
  });
});
