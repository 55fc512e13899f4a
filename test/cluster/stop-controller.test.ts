/** `disklift stop-controller` on a real API server, with only the rights of the chart's hook. */

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { labelsOf } from '../../src/controller/export-objects.ts';
import { CHART, CONTROLLER, parseManifests } from '../helpers/chart.ts';
import { disklift } from '../helpers/disklift.ts';
import { isOfHook, type Workload } from '../helpers/helm-pods.ts';
import { helmTools } from '../helpers/helm-tools.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { until } from '../helpers/until.ts';
import { type AuditedApiServer, startAuditedApiServer } from './audited-api-server.ts';
import { applyChartAccount } from './chart-account.ts';
import { createNamespace, type Namespace } from './cluster-sidecar.ts';
import { installLooseCrds, SNAPSHOT_KINDS } from './loose-crds.ts';

const PLACES = {
  jobs: '/apis/batch/v1',
  pods: '/api/v1',
  persistentvolumeclaims: '/api/v1',
  configmaps: '/api/v1',
  serviceaccounts: '/api/v1',
  rolebindings: '/apis/rbac.authorization.k8s.io/v1',
  volumesnapshots: '/apis/snapshot.storage.k8s.io/v1',
  virtualmachinesnapshots: '/apis/snapshot.kubevirt.io/v1beta1',
} as const;

type Kind = keyof typeof PLACES;

const POD = { automountServiceAccountToken: false, containers: [{ name: 'disklift', image: 'x' }] };

const SPECS: Partial<Record<Kind, object>> = {
  jobs: { spec: { suspend: true, template: { spec: { ...POD, restartPolicy: 'Never' } } } },
  pods: { spec: POD },
  persistentvolumeclaims: { spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } } },
  // The API server takes no object of a CRD without them.
  volumesnapshots: { apiVersion: 'snapshot.storage.k8s.io/v1', kind: 'VolumeSnapshot' },
  virtualmachinesnapshots: { apiVersion: 'snapshot.kubevirt.io/v1beta1', kind: 'VirtualMachineSnapshot' },
  rolebindings: { roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'view' } },
};

/** Objects with one fixed name in each namespace. */
const FIXED = ['serviceaccounts', 'rolebindings'];

describe('stop-controller', function () {
  this.timeout(90_000);
  const temp = useTempDir();
  let api: AuditedApiServer;
  let release: Namespace;
  let served: Namespace;
  let other: Namespace;

  before(async function () {
    api = await startAuditedApiServer(this);
  });

  after(async () => {
    await api?.stop();
  });

  beforeEach(async () => {
    [release, served, other] = [await createNamespace(api), await createNamespace(api), await createNamespace(api)];
  });

  async function create(place: string, body: object): Promise<void> {
    const answer = await api.request(place, { method: 'POST', body });
    assert.equal(answer.status, 201, JSON.stringify(answer.body));
  }

  const placeOf = (kind: Kind, { name }: Namespace) => `${PLACES[kind]}/namespaces/${name}/${kind}`;

  const labels = labelsOf({ metadata: { uid: 'u-1' } } as Parameters<typeof labelsOf>[0]);

  /** Objects as the controller makes them for one export, and one of each kind that others made. */
  async function makeObjects(namespace: Namespace, kinds: readonly Kind[]): Promise<void> {
    for (const kind of kinds) {
      const name = FIXED.includes(kind) ? 'disklift-worker' : 'disklift-u-1';
      await create(placeOf(kind, namespace), { ...SPECS[kind], metadata: { name, labels } });
      await create(placeOf(kind, namespace), {
        ...SPECS[kind],
        metadata: { name: 'of-another', labels: { 'app.kubernetes.io/name': 'disklift' } },
      });
    }
  }

  async function namesIn(namespace: Namespace, kinds: readonly Kind[]): Promise<string[]> {
    const names: string[] = [];
    for (const kind of kinds) {
      const { body } = await api.request(placeOf(kind, namespace));
      const items = body.items as { metadata: { name: string; deletionTimestamp?: string } }[];
      // The protection of claims in use keeps a claim until a controller has looked at it.
      for (const { metadata } of items)
        if (!/^default$|^disklift-stop/.test(metadata.name) && metadata.deletionTimestamp === undefined)
          names.push(`${kind}/${metadata.name}`);
    }
    return names.sort();
  }

  const others = (kinds: readonly Kind[]) => kinds.map((kind) => `${kind}/of-another`).sort();

  /** @returns the arguments of the hook's container */
  async function applyController(values: object): Promise<string[]> {
    writeFileSync(temp('values.json'), JSON.stringify(values));
    const { stdout, stderr } = await helmTools().helm('template', 'disklift', CHART, '-n', release.name, '--values', temp('values.json'));
    const workloads = parseManifests(stdout.toString()).filter(({ kind }) => ['Deployment', 'Job'].includes(kind)) as Workload[];
    const [deployment, hook] = workloads;
    assert.ok(deployment !== undefined && hook !== undefined && isOfHook(hook.metadata), stderr);
    writeFileSync(temp('deployment.json'), JSON.stringify(deployment));
    const applied = await api.kubectl('apply', '--filename', temp('deployment.json'));
    assert.equal(applied.code, 0, applied.stderr);
    await create(placeOf('pods', release), { metadata: { name: 'leader', labels: deployment.spec.template.metadata.labels }, spec: POD });
    return hook.spec.template.spec.containers[0]?.args ?? [];
  }

  const removePod = (namespace: Namespace, name: string) =>
    api.request(`${placeOf('pods', namespace)}/${name}?gracePeriodSeconds=0`, { method: 'DELETE' });

  it('without the kinds of snapshots removes all else', async () => {
    const kinds = (Object.keys(PLACES) as Kind[]).filter((kind) => !kind.includes('snapshots'));
    const account = await applyChartAccount(api, release.name, CONTROLLER, { of: 'stop-controller' });
    const args = await applyController(CONTROLLER);
    await makeObjects(served, kinds);
    await removePod(release, 'leader');
    await removePod(served, 'disklift-u-1');
    const { code, stderr } = await disklift([...args, '--kubeconfig', account.kubeconfig]);
    assert.deepEqual([code, stderr], [0, '']);
    assert.deepEqual(await namesIn(served, kinds), others(kinds));
  });

  it('waits for the controller, then for the workers, removes their objects in all namespaces, and uses every right of the hook', async () => {
    const kinds = Object.keys(PLACES) as Kind[];
    await installLooseCrds(api, SNAPSHOT_KINDS);
    const account = await applyChartAccount(api, release.name, CONTROLLER, { of: 'stop-controller' });
    const args = await applyController(CONTROLLER);
    await makeObjects(served, kinds);
    await makeObjects(other, kinds);
    const begin = api.askedBy(account.user).length;
    const ending = disklift([...args, '--kubeconfig', account.kubeconfig]);
    const asked = () => api.askedBy(account.user).slice(begin);
    await until('it waits for the controller', () => asked().filter(({ resource }) => resource === 'pods').length > 1);
    assert.ok(!asked().some(({ resource }) => resource === 'jobs'), 'the Jobs go after the controller');
    await removePod(release, 'leader');
    await until('it waits for the workers', async () => asked().filter(({ namespace }) => namespace !== release.name).length > 3);
    assert.ok((await namesIn(served, ['rolebindings'])).includes('rolebindings/disklift-worker'), 'a worker needs its rights to the end');
    for (const namespace of [served, other]) await removePod(namespace, 'disklift-u-1');
    assert.deepEqual(await ending.then(({ code, stderr }) => [code, stderr]), [0, '']);
    for (const namespace of [served, other]) assert.deepEqual(await namesIn(namespace, kinds), others(kinds));
    const rights = [...new Set(asked().map(({ resource, verb }) => `${resource} ${verb}`))].sort();
    assert.deepEqual(rights, account.permitted);
    assert.ok(asked().every(({ status }) => status < 300));
  });

  it('removes the objects of the named namespaces only, where it has its rights', async () => {
    const kinds = Object.keys(PLACES) as Kind[];
    await installLooseCrds(api, SNAPSHOT_KINDS);
    const values = { ...CONTROLLER, controller: { enabled: true, namespaces: [served.name] } };
    const account = await applyChartAccount(api, release.name, values, { of: 'stop-controller' });
    const args = await applyController(values);
    await makeObjects(served, kinds);
    await makeObjects(other, kinds);
    await removePod(release, 'leader');
    await removePod(served, 'disklift-u-1');
    const { code, stderr } = await disklift([...args, '--kubeconfig', account.kubeconfig]);
    assert.deepEqual([code, stderr], [0, '']);
    assert.deepEqual(await namesIn(served, kinds), others(kinds));
    assert.equal((await namesIn(other, kinds)).length, 2 * kinds.length);
    for (const { namespace } of api.askedBy(account.user)) assert.ok([release.name, served.name].includes(namespace), namespace);
  });
});
