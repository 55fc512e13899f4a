/**
 * VMs and their snapshots with the real virt-controller and the real definitions of KubeVirt. Since no node exists,
 * tests play virt-api with the guest agent (played-virt-api), storage with its snapshotter (played-storage), and
 * virt-handler, which reports the state of a guest (kubevirt-vm).
 */

import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { parse } from 'yaml';
import { isRunning } from '../../src/controller/virtual-machine/is-running.ts';
import { renderVmManifest } from '../../src/controller/virtual-machine/vm-manifest.ts';
import { volumesOfVm } from '../../src/controller/virtual-machine/volumes-of-vm.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { type KubeVirt, startKubeVirt } from './kubevirt-cluster.ts';
import { type KubeVirtVm, kubeVirtVm } from './kubevirt-vm.ts';
import { createClasses, type PlayedStorage, playStorage } from './played-storage.ts';
import { type PlayedVirtApi, playVirtApi } from './played-virt-api.ts';

const CUT_TIME = '2026-11-30T10:00:00Z';

describe('a VM on a real virt-controller', function () {
  this.timeout(180_000);
  const temp = useTempDir();
  let kubevirt: KubeVirt;
  let virtApi: PlayedVirtApi;

  before(async function () {
    kubevirt = await startKubeVirt(this);
    virtApi = await playVirtApi(kubevirt);
    await createClasses(kubevirt);
  });

  after(async () => {
    await virtApi?.[Symbol.asyncDispose]();
    await kubevirt?.[Symbol.asyncDispose]();
  });

  let count = 0;
  let namespace: string;
  let storage: PlayedStorage;
  let vm: KubeVirtVm;

  beforeEach(async () => {
    count += 1;
    namespace = `vms-${count}`;
    await kubevirt.send('POST', '/api/v1/namespaces', { metadata: { name: namespace } });
    storage = playStorage(kubevirt, namespace);
    vm = kubeVirtVm(kubevirt, namespace);
    virtApi.calls.length = 0;
  });

  afterEach(() => {
    assert.deepEqual(virtApi.unknownCalls, []);
    assert.deepEqual(virtApi.failures, []);
  });

  describe('that is stopped', () => {
    beforeEach(async () => {
      await vm.createVm('Halted', [
        { name: 'data', persistentVolumeClaim: { claimName: 'db01-data' } },
        { name: 'scratch', emptyDisk: { capacity: '1Gi' } },
      ]);
      await vm.eventually('Stopped', async () => (await vm.vmOf()).status?.printableStatus !== undefined);
    });

    it('is not running, and its snapshot says which claim is missing until its deadline', async () => {
      assert.equal(isRunning(await vm.vmOf(), await vm.vmiOf()), false);
      const name = await vm.takeSnapshot(12);
      assert.equal((await vm.read(name)).state, 'pending');
      await vm.untilMessage(name, /^Source not locked source vms-\d+\/db01 volume doesnt exist: db01-(root|data)$/);
      const failed = await vm.untilState(name, ({ state }) => state === 'failed');
      assert.deepEqual(failed, { state: 'failed', reason: 'SnapshotFailed', message: 'snapshot deadline exceeded' });
    });

    it('has a snapshot that is Offline, pending until all volumes are cut and can be cloned', async () => {
      await storage.claim('db01-root', 'with-snapshots');
      await storage.claim('db01-data', 'with-snapshots');
      const name = await vm.takeSnapshot();
      const names = await storage.requested(2);
      await vm.untilMessage(name, /^Source locked and operation in progress$/);
      await storage.cut(names, CUT_TIME);
      await vm.untilMessage(name, /^the VolumeSnapshots are not ready to be cloned$/);
      await storage.makeReady(names);
      const state = await vm.untilReady(name);
      const claim = { size: '512Mi', storageClassName: 'with-snapshots', accessModes: ['ReadWriteOnce'], volumeMode: 'Block' };
      // Kubernetes adds annotations to claims.
      assert.ok(state.state === 'ready');
      for (const { claim: found } of state.volumes) delete found.annotations;
      assert.deepEqual(state, {
        state: 'ready',
        consistency: 'Offline',
        snapshotTime: CUT_TIME,
        volumes: [
          { name: 'root', volumeSnapshotName: names[1], claim: { name: 'db01-root', ...claim } },
          { name: 'data', volumeSnapshotName: names[0], claim: { name: 'db01-data', ...claim } },
        ],
        leftOut: [{ name: 'scratch', why: 'is an empty disk; its content ends with the VM' }],
      });
      assert.deepEqual(virtApi.calls, []);
    });

    it('has a snapshot without the disk whose class has no VolumeSnapshotClass, which KubeVirt calls ready', async () => {
      await storage.claim('db01-root', 'with-snapshots');
      await storage.claim('db01-data', 'without-snapshots');
      const name = await vm.takeSnapshot();
      const names = await storage.requested(1);
      await storage.cut(names, CUT_TIME);
      await storage.makeReady(names);
      const state = await vm.untilReady(name);
      assert.ok(state.state === 'ready');
      assert.deepEqual(
        state.leftOut.map(({ name: left }) => left),
        ['scratch', 'data'],
      );
      assert.partialDeepStrictEqual(await vm.read(name, ['root']), { state: 'ready', leftOut: [] });
      assert.partialDeepStrictEqual(await vm.read(name, ['data']), { state: 'failed', reason: 'VolumesNotInSnapshot' });
    });

    it('has a snapshot without any disk, which KubeVirt calls ready and disklift refuses', async () => {
      await storage.claim('db01-root', 'without-snapshots');
      await storage.claim('db01-data', 'without-snapshots');
      const name = await vm.takeSnapshot();
      const state = await vm.untilState(name, ({ state: now }) => now === 'failed');
      assert.partialDeepStrictEqual(state, { reason: 'VolumesNotInSnapshot' });
      const { status } = await kubevirt.send('GET', `${vm.place('virtualmachinesnapshots')}/${name}`);
      assert.partialDeepStrictEqual(status, { phase: 'Succeeded', readyToUse: true });
    });

    it('has a vm.yaml that kubectl applies without a warning, and that gives the same VM in another namespace', async () => {
      await storage.claim('db01-root', 'with-snapshots', { annotations: { 'example.com/size': '0o17', 'example.com/on': 'on' } });
      const claim = await kubevirt.send('GET', `/api/v1/namespaces/${namespace}/persistentvolumeclaims/db01-root`);
      const there = await vm.vmOf();
      const text = renderVmManifest(there, [claim]);
      const file = temp('vm.yaml');
      await writeFile(file, text);
      await kubevirt.send('POST', '/api/v1/namespaces', { metadata: { name: `${namespace}-restored` } });
      for (const flags of [['--dry-run=server'], []]) {
        const { code, stderr } = await kubevirt.api.kubectl('apply', '--namespace', `${namespace}-restored`, '--filename', file, ...flags);
        assert.equal(stderr, '');
        assert.equal(code, 0);
      }
      const restored = await kubevirt.send('GET', `/apis/kubevirt.io/v1/namespaces/${namespace}-restored/virtualmachines/db01`);
      assert.deepEqual(restored.spec, there.spec);
      const restoredClaim = await kubevirt.send('GET', `/api/v1/namespaces/${namespace}-restored/persistentvolumeclaims/db01-root`);
      // The volume is larger than the claim requested, and the restored claim holds all of it.
      assert.partialDeepStrictEqual(restoredClaim, {
        metadata: { annotations: { 'example.com/size': '0o17', 'example.com/on': 'on' } },
        spec: { resources: { requests: { storage: '1Gi' } } },
      });
      // Applying it adds annotations, which are left out the next time.
      assert.equal(renderVmManifest(restored, []).replaceAll(`${namespace}-restored`, namespace), renderVmManifest(there, []));
      assert.equal(parse(text.split('---\n')[2] ?? '').kind, 'VirtualMachine');
    });
  });

  describe('that runs', () => {
    const AGENT = { type: 'AgentConnected', status: 'True' };

    beforeEach(() => storage.claim('db01-root', 'with-snapshots'));

    /** virt-controller may repeat a call: it thaws again when its status has changed meanwhile. */
    const distinctCalls = () =>
      virtApi.calls
        .map(({ action, existing }) => `${action} with ${existing} VolumeSnapshots`)
        .filter((call, index, calls) => call !== calls[index - 1]);

    /** Storage cuts the volume. @returns the consistency that disklift reads, and the indications of KubeVirt */
    async function finish(name: string) {
      const names = await storage.requested(1);
      await storage.cut(names, CUT_TIME);
      await storage.makeReady(names);
      const state = await vm.untilReady(name);
      assert.ok(state.state === 'ready');
      const { status } = await kubevirt.send('GET', `${vm.place('virtualmachinesnapshots')}/${name}`);
      return [state.consistency, ...(status.indications ?? [])];
    }

    it('has a snapshot of a frozen guest: frozen before the first VolumeSnapshot exists, and thawed after', async () => {
      await vm.createRunningVm([AGENT]);
      assert.deepEqual(volumesOfVm(await vm.vmOf(), undefined, await vm.vmiOf()).volumes, [{ name: 'root', claimName: 'db01-root' }]);
      const name = await vm.takeSnapshot(300);
      assert.deepEqual(await finish(name), ['Application', 'GuestAgent', 'Online']);
      assert.deepEqual(distinctCalls(), ['freeze with 0 VolumeSnapshots', 'unfreeze with 1 VolumeSnapshots']);
      assert.equal(virtApi.calls[0]?.unfreezeTimeout, '5m0s');
    });

    it('has no snapshot while its guest does not freeze, and one when it does', async () => {
      await vm.createRunningVm([AGENT]);
      virtApi.failures.push({ action: 'freeze', message: 'the agent is busy' });
      const name = await vm.takeSnapshot();
      await vm.untilMessage(name, /the agent is busy/);
      assert.deepEqual(await finish(name), ['Application', 'GuestAgent', 'Online']);
      assert.deepEqual(distinctCalls(), ['freeze with 0 VolumeSnapshots', 'unfreeze with 1 VolumeSnapshots']);
      assert.equal(virtApi.calls.filter(({ action }) => action === 'freeze').length, 2);
    });

    it('has a Crash snapshot if the guest ended the freeze by itself, as VSS of Windows does after ten seconds', async () => {
      await vm.createRunningVm([AGENT]);
      virtApi.failures.push({ action: 'unfreeze', message: 'fsfreeze is limited up to 10 seconds' });
      const name = await vm.takeSnapshot();
      assert.deepEqual(await finish(name), ['Crash', 'GuestAgent', 'Online', 'QuiesceTimeout']);
    });

    it('has a Crash snapshot without an agent', async () => {
      await vm.createRunningVm([]);
      assert.deepEqual(await finish(await vm.takeSnapshot()), ['Crash', 'NoGuestAgent', 'Online']);
      assert.deepEqual(virtApi.calls, []);
    });

    it('has a Crash snapshot if it is paused, because a paused guest does not flush its memory', async () => {
      await vm.createRunningVm([AGENT, { type: 'Paused', status: 'True' }]);
      assert.deepEqual(await finish(await vm.takeSnapshot()), ['Crash', 'Online', 'Paused']);
      assert.deepEqual(virtApi.calls, []);
    });

    it('has a Crash snapshot if the guest stops before the snapshot is complete, although KubeVirt records no guest', async () => {
      await vm.createRunningVm([AGENT], 'RerunOnFailure');
      const name = await vm.takeSnapshot();
      await storage.requested(1);
      // The guest shuts down. virt-handler reports that, and virt-controller removes the instance.
      await kubevirt.patch(`${vm.place('virtualmachineinstances')}/db01`, { status: { phase: 'Succeeded' } });
      const snapshot = () => kubevirt.send('GET', `${vm.place('virtualmachinesnapshots')}/${name}`);
      await vm.eventually('no indications', async () => (await snapshot()).status.indications === undefined);
      assert.deepEqual(await finish(name), ['Crash']);
    });

    it('is thawed, and nothing is left, when its snapshot is deleted before it is complete', async () => {
      await vm.createRunningVm([AGENT]);
      const name = await vm.takeSnapshot();
      await storage.requested(1);
      await kubevirt.send('DELETE', `${vm.place('virtualmachinesnapshots')}/${name}`);
      await storage.requested(0);
      await vm.eventually('no snapshot', async () => (await kubevirt.send('GET', vm.place('virtualmachinesnapshots'))).items.length === 0);
      assert.match(distinctCalls().join(), /^freeze with 0 VolumeSnapshots,unfreeze with /);
      assert.equal((await vm.vmOf()).status.snapshotInProgress, undefined);
    });
  });
});
