/**
 * The controller with only the rights that the chart gives it: it sends no request beyond them, and uses them. The
 * tests play storage and KubeVirt. No pod is scheduled.
 */

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { RESOURCES } from '../../src/stores/kubernetes/client/resources.ts';
import { CONTROLLER } from '../helpers/chart.ts';
import { diskExport, type Manifest } from '../helpers/manifest.ts';
import { type Service, startService } from '../helpers/service.ts';
import { until } from '../helpers/until.ts';
import { type AuditedApiServer, startAuditedCluster } from './audited-api-server.ts';
import { applyChartAccount, type ChartAccount } from './chart-account.ts';
import { createNamespace, type Namespace } from './cluster-sidecar.ts';
import { installCrd } from './install-crd.ts';
import { FLEET_KINDS, installLooseCrds } from './loose-crds.ts';

const NOWHERE = { http: { url: 'http://127.0.0.1:1/{disk}.qcow2' } };
const TO_S3 = { s3: { endpoint: 'http://127.0.0.1:1', bucket: 'backups', key: '{vm}/{disk}', credentialsSecretRef: { name: 'keys' } } };
const ALWAYS = { snapshot: { mode: 'Always' } };

/** Rights for courses of events that this test does not play: a repeated event, an answer that was lost. */
const RARE = ['diskexports get', 'events patch'];

type Kind = keyof typeof RESOURCES;

describe('the permissions of the controller', function () {
  this.timeout(120_000);
  let api: AuditedApiServer;
  let release: Namespace;
  let namespace: Namespace;
  let account: ChartAccount;

  before(async function () {
    // As in OpenShift: an owner reference with blockOwnerDeletion requires the right to update the owner's finalizers.
    api = await startAuditedCluster(this, '--enable-admission-plugins=OwnerReferencesPermissionEnforcement');
    await installCrd(api);
    await installCrd(api, 'crd-schedules.yaml');
    await installLooseCrds(api, FLEET_KINDS);
  });

  after(async () => {
    await api?.stop();
  });

  beforeEach(async () => {
    [release, namespace] = [await createNamespace(api), await createNamespace(api)];
  });

  function placeOf(kind: Kind, name = ''): string {
    const { group, version, plural, isClusterScoped = false } = RESOURCES[kind] as (typeof RESOURCES)[Kind] & { isClusterScoped?: boolean };
    const root = group === '' ? `/api/${version}` : `/apis/${group}/${version}`;
    return `${root}${isClusterScoped ? '' : `/namespaces/${namespace.name}`}/${plural}${name && `/${name}`}`;
  }

  async function create(kind: Kind, name: string, object: object = {}): Promise<void> {
    const { group, version, kind: type } = RESOURCES[kind];
    const body = { apiVersion: group === '' ? version : `${group}/${version}`, kind: type, metadata: { name }, ...object };
    const answer = await api.request(placeOf(kind), { method: 'POST', body });
    assert.equal(answer.status, 201, JSON.stringify(answer.body));
  }

  async function setStatus(kind: Kind, name: string, status: object): Promise<void> {
    const contentType = 'application/merge-patch+json';
    const answer = await api.request(`${placeOf(kind, name)}/status`, { method: 'PATCH', body: { status }, contentType });
    assert.equal(answer.status, 200, JSON.stringify(answer.body));
  }

  const namesOf = async (kind: Kind) =>
    ((await api.request(placeOf(kind))).body.items as { metadata: { name: string } }[]).map(({ metadata }) => metadata.name);

  /** Waits for an object that the controller makes. @returns its name */
  async function made(kind: Kind): Promise<string> {
    let names: string[] = [];
    await until(`there is one of ${kind}`, async () => {
      names = (await namesOf(kind)).filter((name) => /^disklift-[0-9a-f-]{36}/.test(name));
      return names.length > 0;
    });
    return names[0] as string;
  }

  const start = (...flags: string[]): Promise<Service> =>
    startService({
      args: [
        ...['controller', '--kubeconfig', account.kubeconfig, '--listen-host', '127.0.0.1', '--listen-port', '0'],
        ...['--leader-election-namespace', release.name, '--leader-election-lease', 'disklift-controller'],
        ...['--worker-image', 'disklift:test', '--worker-cluster-role', 'disklift-worker', ...flags],
      ],
      startMessage: 'controller runs',
    });

  const asked = () => api.askedBy(account.user);

  const claim = (name: string) =>
    create('persistentVolumeClaims', name, {
      spec: { accessModes: ['ReadWriteOnce'], storageClassName: 'fast', resources: { requests: { storage: '1Gi' } } },
    });

  async function cancel(name: string): Promise<void> {
    await namespace.edit(name, { cancel: true });
    assert.equal((await namespace.finished(name)).phase, 'Cancelled');
  }

  async function exportFromSnapshot(): Promise<void> {
    await claim('in-use');
    await namespace.apply(diskExport('always', NOWHERE, { ...ALWAYS, source: { persistentVolumeClaim: { claimName: 'in-use' } } }));
    const name = await made('volumeSnapshots');
    await setStatus('volumeSnapshots', name, { readyToUse: true, restoreSize: '1Gi', creationTime: '2026-01-01T00:00:00Z' });
    await made('persistentVolumeClaims');
    await made('jobs');
    // No pod is made: the controller looks for events of the Job and of the clone.
    await until('events are listed', () => asked().some(({ resource, verb }) => resource === 'events' && verb === 'list'));
    await cancel('always');
  }

  /** The snapshot of the newest image of a tracker goes from its export to the claim. */
  async function exportTracked(): Promise<void> {
    await create('snapshotMetadataServices', 'driver.example', {
      spec: { address: 'metadata.example:1', audience: 'metadata', caCert: '' },
    });
    await create('persistentVolumeClaims', 'tracked', {
      spec: { accessModes: ['ReadWriteOnce'], volumeMode: 'Block', storageClassName: 'fast', resources: { requests: { storage: '1Gi' } } },
    });
    const before = await namesOf('volumeSnapshots');
    const source = { persistentVolumeClaim: { claimName: 'tracked' } };
    const destination = { http: { url: 'http://127.0.0.1:1/{name}.qcow2' } };
    await namespace.apply(
      diskExport('tracked', destination, { ...ALWAYS, source, receipt: true, incremental: { tracker: '/latest.json' } }),
    );
    let name = '';
    await until('there is a snapshot', async () => {
      name = (await namesOf('volumeSnapshots')).find((each) => !before.includes(each)) ?? '';
      return name !== '';
    });
    const completionTime = new Date(Date.now() - 60_000).toISOString().replace(/\.\d+Z$/, 'Z');
    await setStatus('exports', 'tracked', { phase: 'Succeeded', completionTime });
    await until('the claim owns the snapshot', async () => {
      const { metadata } = (await api.request(placeOf('volumeSnapshots', name))).body;
      return metadata.ownerReferences[0].kind === 'PersistentVolumeClaim';
    });
    assert.equal((await api.request(placeOf('volumeSnapshots', name), { method: 'DELETE' })).status, 200);
  }

  /** The claim of the snapshot does not exist any more. */
  async function exportSnapshot(): Promise<void> {
    await create('volumeSnapshotContents', 'content', { spec: { sourceVolumeMode: 'Block' } });
    await create('volumeSnapshots', 'given', { spec: { source: { persistentVolumeClaimName: 'gone' } } });
    await setStatus('volumeSnapshots', 'given', { readyToUse: true, boundVolumeSnapshotContentName: 'content', restoreSize: '1Gi' });
    await namespace.apply(diskExport('given', NOWHERE, { source: { volumeSnapshot: { name: 'given' } }, ttlSecondsAfterFinished: 0 }));
    await until('a Job exists', async () => (await namesOf('jobs')).length > 0);
    await namespace.edit('given', { cancel: true });
    await namespace.until('given', (object) => object === undefined);
  }

  async function exportVm(): Promise<void> {
    await claim('root');
    const volumes = [{ name: 'root', persistentVolumeClaim: { claimName: 'root' } }];
    const template = { spec: { volumes, domain: { devices: {} } } };
    await create('virtualMachines', 'vm', { spec: { runStrategy: 'Halted', template } });
    const source = { virtualMachine: { name: 'vm' } };
    await namespace.apply(diskExport('stopped', TO_S3, { source }));
    await made('configMaps');
    await cancel('stopped');
    await create('virtualMachineInstances', 'vm', { spec: { volumes }, status: { phase: 'Running' } });
    await namespace.apply(diskExport('running', TO_S3, { source, ...ALWAYS }));
    const name = await made('virtualMachineSnapshots');
    await setStatus('virtualMachineSnapshots', name, {
      ...{ phase: 'Succeeded', readyToUse: true, virtualMachineSnapshotContentName: 'of-the-vm' },
    });
    await until('the content is looked for', () => asked().some(({ resource }) => resource === 'virtualmachinesnapshotcontents'));
    await cancel('running');
  }

  /** The controller looks for the backup, and has nothing to make for one that does not exist. */
  async function exportBackup(): Promise<void> {
    await namespace.apply(diskExport('backup', NOWHERE, { source: { virtualMachineBackup: { name: 'monday' } } }));
    await until('the backup is looked for', () => asked().some(({ resource }) => resource === 'virtualmachinebackups'));
    await cancel('backup');
  }

  /** No pod can be made there that aborts the upload, so the controller removes the finalizer. */
  async function deleteNamespace(): Promise<void> {
    const ending = await createNamespace(api);
    const metadata = { name: 'open', finalizers: ['disklift.dev/cleanup'] };
    await ending.apply({ ...diskExport('open', NOWHERE), metadata } as Manifest);
    assert.equal((await api.request(`/api/v1/namespaces/${ending.name}`, { method: 'DELETE' })).status, 200);
    await ending.remove('open');
    await ending.until('open', (object) => object === undefined);
  }

  /** A run was missed, so the schedule begins one at once. */
  async function runSchedule(): Promise<void> {
    const spec = diskExport('x', NOWHERE, { source: { persistentVolumeClaim: { claimName: 'in-use' } } }).spec;
    await create('schedules', 'nightly', {
      spec: { schedule: '* * * * *', concurrencyPolicy: 'Replace', failedHistoryLimit: 0, exportTemplate: { spec } },
    });
    await setStatus('schedules', 'nightly', { lastScheduleTime: new Date(Date.now() - 3_600_000).toISOString().replace(/\.\d+Z$/, 'Z') });
  }

  it('are exactly those that it uses', async () => {
    account = await applyChartAccount(api, release.name, CONTROLLER, { of: 'controller' });
    await create('storageClasses', 'fast', { provisioner: 'driver.example' });
    await create('volumeSnapshotClasses', 'snapshots', { driver: 'driver.example', deletionPolicy: 'Delete' });
    await using controller = await start();
    await exportFromSnapshot();
    await exportTracked();
    await runSchedule();
    await exportSnapshot();
    await exportVm();
    await exportBackup();
    await deleteNamespace();
    const remove = await api.request(placeOf('schedules', 'nightly'), { method: 'DELETE' });
    assert.equal(remove.status, 200);
    for (const { name } of await exportsThere()) await namespace.remove(name);
    await until('nothing is left', async () => (await namesOf('roleBindings')).length === 0);
    assert.equal(await controller.stop(), 0);
    const refused = asked().filter(({ status }) => status === 401 || status === 403);
    assert.deepEqual(refused, [], controller.output());
    const used = [...new Set(asked().map(({ resource, verb }) => `${resource} ${verb}`))].filter((each) => each !== ' get');
    // Reviews need a right of their own, and a bind is no request.
    const needed = [...used, ...RARE, 'clusterroles bind'];
    assert.deepEqual([...new Set(needed)].sort(), account.permitted);
  });

  const exportsThere = async () =>
    ((await api.request(placeOf('exports'))).body.items as { metadata: { name: string } }[]).map(({ metadata }) => metadata);

  it('in named namespaces do not reach another one, and are enough there', async () => {
    const values = { ...CONTROLLER, controller: { enabled: true, namespaces: [namespace.name] } };
    account = await applyChartAccount(api, release.name, values, { of: 'controller' });
    await using controller = await start('--namespaces', namespace.name);
    await claim('root');
    await namespace.apply(diskExport('first', NOWHERE, { source: { persistentVolumeClaim: { claimName: 'root' } } }));
    const job = await made('jobs');
    const { spec, metadata } = (await api.request(placeOf('jobs', job))).body;
    assert.equal(metadata.namespace, namespace.name);
    const { serviceAccountName, containers } = spec.template.spec;
    assert.deepEqual([serviceAccountName, containers.length, containers[0].image], ['disklift-worker', 1, 'disklift:test']);
    await cancel('first');
    await sleep(500);
    assert.deepEqual(
      asked().filter(({ status }) => status === 403),
      [],
      controller.output(),
    );
    const places = new Set(asked().map((request) => request.namespace));
    for (const place of places) assert.ok(['', release.name, namespace.name].includes(place), place);
  });

  describe('as a thief of its token has them', () => {
    beforeEach(async () => {
      const values = { ...CONTROLLER, controller: { enabled: true, namespaces: [namespace.name] } };
      account = await applyChartAccount(api, release.name, values, { of: 'controller' });
    });

    async function mayDo(...what: string[]): Promise<string> {
      const { stdout } = await api.kubectl('--kubeconfig', account.kubeconfig, 'auth', 'can-i', ...what);
      return stdout.toString().trim();
    }

    async function bind(role: string): Promise<string> {
      const args = ['create', 'rolebinding', `of-${role}`, `--clusterrole=${role}`, `--serviceaccount=${namespace.name}:default`];
      const { code, stderr } = await api.kubectl('--kubeconfig', account.kubeconfig, '--namespace', namespace.name, ...args);
      return code === 0 ? 'bound' : stderr;
    }

    it('bind the ClusterRole of the workers and no other', async () => {
      assert.equal(await bind('disklift-worker'), 'bound');
      for (const role of ['cluster-admin', 'admin', 'view', 'system:node'])
        assert.match(await bind(role), /not currently held|is forbidden/, role);
    });

    it('read no Secret, start no shell, make no token, and change no account, Role, pod or other claim than they say', async () => {
      for (const what of [
        ['get', 'secrets'],
        ['list', 'secrets'],
        ['create', 'pods'],
        ['create', 'pods', '--subresource', 'exec'],
        ['create', 'serviceaccounts', '--subresource', 'token'],
        ['create', 'roles.rbac.authorization.k8s.io'],
        ['patch', 'jobs.batch'],
        ['patch', 'persistentvolumeclaims'],
        ['delete', 'serviceaccounts/default'],
        ['delete', 'rolebindings.rbac.authorization.k8s.io/of-another'],
        ['deletecollection', 'volumesnapshots.snapshot.storage.k8s.io'],
        ['impersonate', 'users'],
      ])
        assert.equal(await mayDo(...what, '--namespace', namespace.name), 'no', what.join(' '));
      assert.equal(await mayDo('delete', 'serviceaccounts/disklift-worker', '--namespace', namespace.name), 'yes');
    });

    it('do not reach another namespace, or the nodes', async () => {
      for (const what of [
        ['create', 'jobs.batch', '--namespace', 'default'],
        ['list', 'pods', '--all-namespaces'],
        ['list', 'diskexports.disklift.dev', '--namespace', 'default'],
        ['get', 'nodes'],
        ['list', 'namespaces'],
        ['update', 'leases.coordination.k8s.io', '--namespace', namespace.name],
      ])
        assert.equal(await mayDo(...what), 'no', what.join(' '));
    });
  });
});
