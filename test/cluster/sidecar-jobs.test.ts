/** A Job of one export on a real node, whose pods are deleted and which is suspended, resumed and deleted. */

// Runs alone: its node uses namespaces, cgroups and devices of the machine, and has deadlines of its own.
// Shares a process: node

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { CHART, readManifests } from '../helpers/chart.ts';
import { createKubeVirtDisk } from '../helpers/kubevirt-disk.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import type { CommandResult } from '../helpers/run-command.ts';
import { boundClaim } from './node/claims.ts';
import { helm, valuesFlags } from './node/helm.ts';
import { createNamespace, type Namespace } from './node/namespace.ts';
import { type HttpReceiver, startHttpReceiver } from './node/receivers.ts';
import type { NodeCluster } from './node-cluster.ts';
import { useNodeCluster } from './use-node-cluster.ts';

/** As in docs/operations.md: true as soon as the Job has any condition. */
const HAS_ENDED = '--for=jsonpath={.status.conditions[0].status}=True';

describe('a Job of one export', function () {
  this.timeout(150_000);
  let cluster: NodeCluster;
  let namespace: Namespace;
  let receiver: HttpReceiver;
  let disk: string;

  before(async function () {
    cluster = await useNodeCluster(this);
    namespace = await createNamespace(cluster);
    await namespace.apply(readManifests('crd.yaml'));
    await namespace.kubectl('wait', 'crd/diskexports.disklift.dev', '--for=condition=Established', '--timeout=30s');
    receiver = await startHttpReceiver(cluster);
    const volume = path.join(cluster.directory, namespace.name);
    mkdirSync(volume);
    // Larger than the buffers of the sockets between.
    disk = await createKubeVirtDisk(volume, 20 * 1024 * 1024);
    await namespace.apply(boundClaim({ namespace: namespace.name, name: 'fedora-root', path: volume, accessMode: 'ReadWriteOnce' }));
  });

  afterEach(async () => {
    receiver.letGo();
    await helm(cluster, namespace, 'uninstall', 'night', '--wait', '--ignore-not-found');
    await namespace.kubectl('delete', 'diskexports', '--all', '--timeout=60s');
  });

  /** Begins an export that stalls, and waits until bytes are sent. @returns the pod that runs it */
  async function begin(name: string): Promise<string> {
    receiver.hold();
    const destination = { http: { url: `${receiver.url}/${name}.qcow2` } };
    const source = { persistentVolumeClaim: { claimName: 'fedora-root' } };
    await namespace.apply([{ apiVersion: 'disklift.dev/v1alpha1', kind: 'DiskExport', metadata: { name }, spec: { source, destination } }]);
    const volumes = { fedora: { claimName: 'fedora-root', once: name } };
    await helm(cluster, namespace, 'install', 'night', CHART, ...valuesFlags(cluster, { volumes }));
    await namespace.kubectl('wait', `diskexport/${name}`, '--for=jsonpath={.status.phase}=Streaming', '--timeout=60s');
    return of(name, '{.status.executor.podName}');
  }

  const of = (name: string, jsonpath: string) => namespace.kubectl('get', 'diskexport', name, '--output', `jsonpath=${jsonpath}`);
  const job = async () => (await namespace.kubectl('get', 'jobs', '--selector', 'disklift.dev/volume', '--output', 'name')).trim();
  const conditionOf = (name: string, type: string) => of(name, `{.status.conditions[?(@.type=="${type}")].status}`);

  /**
   * Waits for the Job as the script in docs/operations.md does, in shorter turns: kubectl does not end a wait when its
   * object is deleted.
   */
  function waitInTurns(job: string): Promise<CommandResult> {
    const kubectl = `${path.join(cluster.binaries, 'kubectl')} --namespace ${namespace.name}`;
    const turn = `${kubectl} wait ${job} '${HAS_ENDED}' --timeout=5s`;
    return cluster.run('timeout', ['60', 'sh', '-c', `until ${turn}; do ${kubectl} get ${job} || exit 1; done`]);
  }

  async function assertStopped(name: string, pod: string): Promise<void> {
    await namespace.kubectl('wait', `diskexport/${name}`, '--for=condition=Progressing=False', '--timeout=30s');
    assert.match(await of(name, '{.status.message}'), new RegExp(`^the pod ${pod}, which ran this export, was stopped; .* deleted$`));
    assert.deepEqual([await of(name, '{.status.phase}'), await conditionOf(name, 'Finished')], ['Pending', 'False']);
  }

  it('replaces a pod that is deleted, and its export arrives', async () => {
    const pod = await begin('pod-deleted');
    await namespace.kubectl('delete', 'pod', pod, '--timeout=40s');
    receiver.letGo();
    await namespace.kubectl('wait', await job(), HAS_ENDED, '--timeout=90s');
    await namespace.kubectl('wait', 'diskexport/pod-deleted', '--for=condition=Succeeded', '--timeout=10s');
    assert.notEqual(await of('pod-deleted', '{.status.executor.podName}'), pod);
    await assertImageOf(receiver.fileOf('pod-deleted.qcow2'), disk);
    assert.equal(await namespace.kubectl('get', await job(), '--output', 'jsonpath={.status.failed}'), '1');
  });

  it('reports in the export that it is suspended, ends a wait for the export, and continues when it is resumed', async () => {
    const pod = await begin('suspended');
    const waiting = namespace.kubectl('wait', await job(), HAS_ENDED, '--timeout=60s');
    await namespace.kubectl('patch', await job(), '--patch', '{"spec": {"suspend": true}}');
    await waiting;
    await assertStopped('suspended', pod);
    receiver.letGo();
    await namespace.kubectl('patch', await job(), '--patch', '{"spec": {"suspend": false}}');
    await namespace.kubectl('wait', 'diskexport/suspended', '--for=condition=Succeeded', '--timeout=90s');
    assert.equal(await conditionOf('suspended', 'Progressing'), 'False');
    await assertImageOf(receiver.fileOf('suspended.qcow2'), disk);
  });

  it('reports in the export that it is deleted, and ends a wait for the export', async () => {
    const pod = await begin('job-deleted');
    const waiting = waitInTurns(await job());
    await namespace.kubectl('delete', await job(), '--timeout=40s');
    const { code, stderr } = await waiting;
    assert.equal(code, 1);
    assert.match(stderr, /not found|NotFound/);
    await assertStopped('job-deleted', pod);
  });

  it('is replaced by helm upgrade when its template changes, and the new Job continues the export', async () => {
    const pod = await begin('upgraded');
    const name = await job();
    const volumes = { fedora: { claimName: 'fedora-root', once: 'upgraded' } };
    const upgrade = (values: object) =>
      helm(cluster, namespace, 'upgrade', 'night', CHART, ...valuesFlags(cluster, { volumes, ...values }));
    await upgrade({ podAnnotations: { changed: 'while it runs' } });
    assert.notEqual(await job(), name);
    await namespace.kubectl('wait', `pod/${pod}`, '--for=delete', '--timeout=60s');
    receiver.letGo();
    await namespace.kubectl('wait', 'diskexport/upgraded', '--for=condition=Succeeded', '--timeout=90s');
    await assertImageOf(receiver.fileOf('upgraded.qcow2'), disk);
    await namespace.kubectl('wait', await job(), '--for=condition=Complete', '--timeout=30s');
    await upgrade({ podAnnotations: { changed: 'when it has ended' } });
    await namespace.kubectl('wait', await job(), '--for=condition=Complete', '--timeout=60s');
  });

  it('stays unchanged when helm upgrade adds a claim and removes it again', async () => {
    await begin('reused');
    const name = await job();
    const deployments = async () => (await namespace.kubectl('get', 'deployments', '--output', 'name')).trim();
    const upgrade = (flag: string) => helm(cluster, namespace, 'upgrade', 'night', CHART, '--reuse-values', '--set', flag);
    await upgrade('volumes.more.claimName=fedora-root');
    assert.deepEqual([await job(), await deployments()], [name, 'deployment.apps/night-disklift-more']);
    await upgrade('volumes.more.enabled=false');
    assert.deepEqual([await job(), await deployments()], [name, '']);
  });

  it('makes, on each run of its schedule, an export with its own name, which is deleted with the Job', async () => {
    const destination = { http: { url: `${receiver.url}/{name}.qcow2` } };
    const schedule = { cron: '0 0 31 2 *', spec: { destination } };
    const values = { volumes: { fedora: { claimName: 'fedora-root', schedule } } };
    await helm(cluster, namespace, 'install', 'night', CHART, ...valuesFlags(cluster, values));
    for (const name of ['first', 'second']) {
      await namespace.kubectl('create', 'job', name, '--from=cronjob/night-disklift-fedora');
      await namespace.kubectl('wait', `job/${name}`, HAS_ENDED, '--timeout=90s');
      await namespace.kubectl('wait', `diskexport/${name}`, '--for=condition=Succeeded', '--timeout=10s');
      await assertImageOf(receiver.fileOf(`${name}.qcow2`), disk);
    }
    await namespace.kubectl('delete', 'job', 'first', '--timeout=40s');
    await namespace.kubectl('wait', 'diskexport/first', '--for=delete', '--timeout=60s');
    assert.equal(await of('second', '{.status.phase}'), 'Succeeded');
  });

  it('makes one export per scheduled run, also when its pod is deleted', async () => {
    receiver.hold();
    const destination = { http: { url: `${receiver.url}/{name}.qcow2` } };
    const schedule = { cron: '0 0 31 2 *', spec: { destination } };
    const values = { volumes: { fedora: { claimName: 'fedora-root', schedule } } };
    await helm(cluster, namespace, 'install', 'night', CHART, ...valuesFlags(cluster, values));
    await namespace.kubectl('create', 'job', 'third', '--from=cronjob/night-disklift-fedora');
    await namespace.kubectl('wait', 'diskexport/third', '--for=create', '--timeout=60s');
    await namespace.kubectl('wait', 'diskexport/third', '--for=jsonpath={.status.phase}=Streaming', '--timeout=60s');
    await namespace.kubectl('delete', 'pod', await of('third', '{.status.executor.podName}'), '--timeout=40s');
    receiver.letGo();
    await namespace.kubectl('wait', 'job/third', HAS_ENDED, '--timeout=90s');
    await assertImageOf(receiver.fileOf('third.qcow2'), disk);
    assert.equal((await namespace.kubectl('get', 'diskexports', '--output', 'name')).trim(), 'diskexport.disklift.dev/third');
  });

  it('reports in the export that its pod does not have the claim', async () => {
    const destination = { http: { url: `${receiver.url}/elsewhere.qcow2` } };
    const source = { persistentVolumeClaim: { claimName: 'windows-root' } };
    const metadata = { name: 'elsewhere' };
    await namespace.apply([{ apiVersion: 'disklift.dev/v1alpha1', kind: 'DiskExport', metadata, spec: { source, destination } }]);
    const volumes = { fedora: { claimName: 'fedora-root', once: 'elsewhere' } };
    await helm(cluster, namespace, 'install', 'night', CHART, ...valuesFlags(cluster, { volumes }));
    await namespace.kubectl('wait', 'diskexport/elsewhere', '--for=jsonpath={.status.observedGeneration}=1', '--timeout=60s');
    assert.match(await of('elsewhere', '{.status.message}'), /^no process serves the claim windows-root; /);
    assert.match(await namespace.kubectl('describe', 'diskexport', 'elsewhere'), /Warning +VolumeNotServed/);
  });
});
