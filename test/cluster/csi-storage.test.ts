/** Storage for tests of snapshots and clones: the real provisioner and snapshotter, and a CSI driver of the tests. */

// Runs alone: its node uses namespaces, cgroups and devices of the machine, and has deadlines of its own.
// Shares a process: node

import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { until } from '../helpers/until.ts';
import { claimPod, READER, WRITER, type WrittenDisk } from './node/claim-pods.ts';
import { storageClaim, volumeSnapshot } from './node/claims.ts';
import { createNamespace, type Namespace } from './node/namespace.ts';
import { FAULT_MESSAGE, type NodeStorage, SNAPSHOT_CLASSES, STORAGE_CLASSES } from './node/storage.ts';
import type { NodeCluster } from './node-cluster.ts';
import { useNodeStorage } from './use-node-storage.ts';

const WAIT = '--timeout=60s';

/**
 * The provisioner deletes a volume some time after its claim. A call that the driver does not answer ends after ten
 * seconds (--timeout), and the provisioner repeats a failed one after 1, 2 and 4 seconds: three failures take 37.
 */
const REMOVAL_MS = 60_000;

describe('storage of a node', function () {
  this.timeout(150_000);
  let cluster: NodeCluster;
  let storage: NodeStorage;
  let namespace: Namespace;

  before(async function () {
    ({ cluster, ...storage } = await useNodeStorage(this));
  });

  beforeEach(async () => {
    namespace = await createNamespace(cluster);
  });

  // Objects of a test that failed would be found by the next one. A test that has passed has removed all.
  afterEach(async () => {
    await namespace.attempt('delete', 'pods,volumesnapshots,persistentvolumeclaims', '--all', WAIT);
  });

  const phaseOf = (claim: string) => namespace.kubectl('get', 'pvc', claim, '--output', 'jsonpath={.status.phase}');

  const waitFor = (object: string, condition: string) => namespace.kubectl('wait', object, `--for=${condition}`, WAIT);

  async function startWriter(claim: object, claimName: string, mode: 'Filesystem' | 'Block'): Promise<void> {
    await namespace.apply([claim, claimPod({ name: 'writer', claimName, mode, script: WRITER })]);
    await waitFor('pod/writer', 'condition=Ready');
    await until('the writer has written', async () => (await namespace.kubectl('logs', 'writer')) === 'writing\n');
  }

  async function read(name: string, claimName: string, mode: 'Filesystem' | 'Block'): Promise<WrittenDisk> {
    await namespace.apply([claimPod({ name, claimName, mode, readOnly: mode === 'Filesystem', script: READER })]);
    await waitFor(`pod/${name}`, 'jsonpath={.status.phase}=Succeeded');
    return JSON.parse(await namespace.kubectl('logs', name)) as WrittenDisk;
  }

  /** Deletes all objects of the namespace, and asserts that the storage has nothing of them. */
  async function assertAllIsRemoved(): Promise<void> {
    for (const kinds of ['pods', 'volumesnapshots,persistentvolumeclaims'])
      await namespace.kubectl('delete', kinds, '--all', '--cascade=foreground', WAIT);
    const rests = async () => [
      ...readdirSync(storage.volumes),
      ...readdirSync(storage.snapshots),
      ...(await linesOf('losetup', '--list', '--noheadings', '--output', 'BACK-FILE')).filter((line) => line.includes('/mnt/csi/')),
      ...(await linesOf('cat', '/proc/self/mountinfo')).filter(
        (line) => line.includes('kubernetes.io~csi') || line.includes('/volumes/pvc-'),
      ),
      ...(await linesOf('kubectl', 'get', 'pv,volumesnapshotcontents', '--output', 'name')).filter((name) => !name.includes('/vms-')),
    ];
    await until('nothing is left', async () => (await rests()).length === 0, REMOVAL_MS).catch(async () =>
      assert.deepEqual(await rests(), [], await reasonsToStay()),
    );
  }

  /** The state of all volumes, their events, and the provisioner's last words. */
  async function reasonsToStay(): Promise<string> {
    const volumes = await linesOf('kubectl', 'get', 'pv', '--output', 'wide');
    const events = await linesOf(
      'kubectl',
      'get',
      'events',
      '--all-namespaces',
      '--field-selector',
      'involvedObject.kind=PersistentVolume',
    );
    return [...volumes, ...events, ...storage.provisionerLog().split('\n').slice(-40)].join('\n');
  }

  async function linesOf(command: string, ...args: string[]): Promise<string[]> {
    const program = command === 'kubectl' ? `${cluster.binaries}/kubectl` : command;
    const { code, stdout, stderr } = await cluster.run(program, args);
    assert.equal(code, 0, stderr);
    return stdout.toString().split('\n').filter(Boolean);
  }

  for (const mode of ['Filesystem', 'Block'] as const)
    it(`a clone of a ${mode} claim's snapshot shows one moment to KubeVirt's user while a pod goes on writing`, async () => {
      await startWriter(storageClaim({ name: 'disk', storageClassName: STORAGE_CLASSES.immediate, mode }), 'disk', mode);
      await namespace.apply([volumeSnapshot('moment', 'disk')]);
      await waitFor('volumesnapshot/moment', 'jsonpath={.status.readyToUse}=true');
      await namespace.apply([storageClaim({ name: 'clone', storageClassName: STORAGE_CLASSES.immediate, mode, snapshotName: 'moment' })]);
      const clone = await read('reader', 'clone', mode);
      const [first, second] = clone.counters;
      assert.ok(first > 0 && (first === second || first === second + 1), `${first} and ${second} were never there together`);
      assert.deepEqual(await read('again', 'clone', mode), clone);
      const writer = await namespace.kubectl('get', 'pod', 'writer', '--output', 'jsonpath={.status.phase}');
      assert.equal(writer, 'Running');
      await namespace.kubectl('delete', 'pod', 'writer', WAIT);
      const source = await read('source', 'disk', mode);
      assert.equal(source.sha256, clone.sha256);
      assert.ok(source.counters[1] > first, 'the writer was not stopped by the snapshot');
      await assertAllIsRemoved();
    });

  it('a claim whose class waits for its first consumer is bound when a pod uses it, and a clone too', async () => {
    const waiting = { storageClassName: STORAGE_CLASSES.waiting };
    await namespace.apply([storageClaim({ name: 'disk', ...waiting })]);
    await until(
      'the claim waits',
      async () => (await namespace.kubectl('get', 'events', '--field-selector', 'reason=WaitForFirstConsumer', '--output', 'name')) !== '',
    );
    assert.equal(await phaseOf('disk'), 'Pending');
    await startWriter(storageClaim({ name: 'disk', ...waiting }), 'disk', 'Filesystem');
    assert.equal(await phaseOf('disk'), 'Bound');
    await namespace.apply([volumeSnapshot('moment', 'disk'), storageClaim({ name: 'clone', ...waiting, snapshotName: 'moment' })]);
    await waitFor('volumesnapshot/moment', 'jsonpath={.status.readyToUse}=true');
    assert.equal(await phaseOf('clone'), 'Pending');
    assert.ok((await read('reader', 'clone', 'Filesystem')).counters[0] > 0);
    await assertAllIsRemoved();
  });

  it('a snapshot of a class that retains stays on the storage when its object is deleted', async () => {
    await namespace.apply([storageClaim({ name: 'disk', storageClassName: STORAGE_CLASSES.immediate })]);
    await waitFor('pvc/disk', 'jsonpath={.status.phase}=Bound');
    await namespace.apply([volumeSnapshot('kept', 'disk', SNAPSHOT_CLASSES.retained)]);
    await waitFor('volumesnapshot/kept', 'jsonpath={.status.readyToUse}=true');
    const content = await namespace.kubectl(
      'get',
      'volumesnapshot',
      'kept',
      '--output',
      'jsonpath={.status.boundVolumeSnapshotContentName}',
    );
    await namespace.kubectl('delete', 'volumesnapshot', 'kept', WAIT);
    assert.equal(readdirSync(storage.snapshots).length, 1);
    const policy = JSON.stringify({ spec: { deletionPolicy: 'Delete' } });
    await namespace.kubectl('patch', 'volumesnapshotcontent', content, '--type=merge', `--patch=${policy}`);
    await namespace.kubectl('delete', 'volumesnapshotcontent', content, WAIT);
    await assertAllIsRemoved();
  });

  it('snapshots of broken classes show the message of the storage, or are never ready, and can be deleted', async () => {
    await namespace.apply([storageClaim({ name: 'disk', storageClassName: STORAGE_CLASSES.immediate })]);
    await waitFor('pvc/disk', 'jsonpath={.status.phase}=Bound');
    await namespace.apply([
      volumeSnapshot('fails', 'disk', SNAPSHOT_CLASSES.fails),
      volumeSnapshot('never', 'disk', SNAPSHOT_CLASSES.neverReady),
    ]);
    await waitFor('volumesnapshot/fails', 'jsonpath={.status.error.message}');
    assert.match(
      await namespace.kubectl('get', 'volumesnapshot', 'fails', '--output', 'jsonpath={.status.error.message}'),
      new RegExp(FAULT_MESSAGE),
    );
    await waitFor('volumesnapshot/never', 'jsonpath={.status.creationTime}');
    const ready = await namespace.kubectl('get', 'volumesnapshots', '--output', 'jsonpath={.items[*].status.readyToUse}');
    assert.equal(ready, 'false false');
    await assertAllIsRemoved();
  });

  it('a snapshot that fails because the storage is full is deleted only after the storage has taken it', async () => {
    await namespace.apply([storageClaim({ name: 'disk', storageClassName: STORAGE_CLASSES.immediate })]);
    await waitFor('pvc/disk', 'jsonpath={.status.phase}=Bound');
    await namespace.apply([volumeSnapshot('full', 'disk', SNAPSHOT_CLASSES.fullAtFirst)]);
    await waitFor('volumesnapshot/full', 'jsonpath={.status.error.message}');
    assert.notEqual((await namespace.attempt('delete', 'volumesnapshot', 'full', '--timeout=2s')).code, 0);
    await assertAllIsRemoved();
    const calls = storage
      .driverLog()
      .split('CreateSnapshot {')
      .filter((call) => call.includes('ResourceExhausted')).length;
    assert.ok(calls >= 4, `${calls} calls failed`);
  });

  it('clones of broken classes stay unbound, say why where the storage answers, and can be deleted', async () => {
    await namespace.apply([
      storageClaim({ name: 'disk', storageClassName: STORAGE_CLASSES.restoreFails }),
      volumeSnapshot('moment', 'disk'),
    ]);
    await waitFor('volumesnapshot/moment', 'jsonpath={.status.readyToUse}=true');
    await namespace.apply([
      storageClaim({ name: 'fails', storageClassName: STORAGE_CLASSES.restoreFails, snapshotName: 'moment' }),
      storageClaim({ name: 'hangs', storageClassName: STORAGE_CLASSES.restoreHangs, snapshotName: 'moment' }),
    ]);
    const failed = ['--field-selector', 'reason=ProvisioningFailed,involvedObject.name=fails', '--output', 'jsonpath={.items[*].message}'];
    await until('the claim says why', async () => (await namespace.kubectl('get', 'events', ...failed)).includes(FAULT_MESSAGE));
    assert.deepEqual([await phaseOf('fails'), await phaseOf('hangs')], ['Pending', 'Pending']);
    await assertAllIsRemoved();
  });
});
