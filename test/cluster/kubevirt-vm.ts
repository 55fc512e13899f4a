/** A VM `db01` in a namespace of a KubeVirt, and snapshots of it as disklift takes and reads them. */

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { buildVmSnapshot } from '../../src/controller/virtual-machine/build-vm-snapshot.ts';
import { isRunning } from '../../src/controller/virtual-machine/is-running.ts';
import { readVmSnapshot, type VmSnapshotState } from '../../src/controller/virtual-machine/read-vm-snapshot.ts';
import type { KubeVirt } from './kubevirt-cluster.ts';

const MAX_WAIT_MS = 60_000;

interface VmVolumeFields {
  name: string;
  [source: string]: unknown;
}

export type KubeVirtVm = ReturnType<typeof kubeVirtVm>;

export function kubeVirtVm(kubevirt: KubeVirt, namespace: string) {
  const place = (kind: string) =>
    `/apis/${kind.includes('snapshot') ? 'snapshot.kubevirt.io/v1beta1' : 'kubevirt.io/v1'}/namespaces/${namespace}/${kind}`;
  const vmOf = () => kubevirt.send('GET', `${place('virtualmachines')}/db01`);

  async function vmiOf() {
    const { status, body } = await kubevirt.api.request(`${place('virtualmachineinstances')}/db01`);
    return status === 404 ? undefined : body;
  }

  async function eventually(what: string, isSo: () => Promise<boolean>) {
    const endMs = performance.now() + MAX_WAIT_MS;
    while (!(await isSo())) {
      if (performance.now() > endMs) assert.fail(`waited in vain for: ${what}; ${JSON.stringify([(await vmOf()).status, await vmiOf()])}`);
      await sleep(100);
    }
  }

  /** A VM with a disk `root` on the claim db01-root, and further volumes. */
  async function createVm(runStrategy: 'Halted' | 'RerunOnFailure' | 'Always', volumes: readonly VmVolumeFields[] = []) {
    const all = [{ name: 'root', persistentVolumeClaim: { claimName: 'db01-root' } }, ...volumes];
    await kubevirt.send('POST', place('virtualmachines'), {
      apiVersion: 'kubevirt.io/v1',
      kind: 'VirtualMachine',
      metadata: { name: 'db01', namespace, annotations: { 'example.com/answer': 'on' } },
      spec: {
        runStrategy,
        template: {
          spec: {
            architecture: 'amd64',
            terminationGracePeriodSeconds: 0,
            domain: {
              cpu: { cores: 1, sockets: 1, threads: 1 },
              memory: { guest: '128Mi' },
              machine: { type: 'q35' },
              firmware: { uuid: '5d307ca9-b3ef-428c-8861-06e72d69f223' },
              devices: { disks: all.map(({ name }) => ({ name, disk: { bus: 'virtio' } })) },
              resources: {},
            },
            volumes: all,
          },
        },
      },
    });
  }

  /** The VM with a guest, as virt-handler reports it. virt-controller makes the instance. */
  async function createRunningVm(
    conditions: readonly object[],
    runStrategy: 'Always' | 'RerunOnFailure' = 'Always',
    volumes: readonly VmVolumeFields[] = [],
  ) {
    await createVm(runStrategy, volumes);
    await eventually('an instance', async () => (await vmiOf())?.status?.virtualMachineRevisionName !== undefined);
    await eventually('an instance with a pod', async () => (await vmiOf())?.status?.phase === 'Scheduling');
    const { status } = await vmiOf();
    await kubevirt.patch(`${place('virtualmachineinstances')}/db01`, {
      status: { phase: 'Running', conditions: [...(status.conditions ?? []), ...conditions] },
    });
    await eventually('a guest', async () => ['Running', 'Paused'].includes((await vmOf()).status?.printableStatus));
    assert.equal(isRunning(await vmOf(), await vmiOf()), true);
  }

  async function takeSnapshot(timeoutSeconds = 600): Promise<string> {
    const exported = { metadata: { name: 'nightly', namespace, uid: 'uid-1' } };
    const running = isRunning(await vmOf(), await vmiOf());
    const manifest = buildVmSnapshot({ export: exported, vmName: 'db01', timeoutSeconds, isRunning: running });
    // The garbage collector would delete a snapshot whose owner does not exist.
    const metadata = { ...manifest.metadata, ownerReferences: [] };
    const { metadata: created } = await kubevirt.send('POST', `${place('virtualmachinesnapshots')}?fieldValidation=Strict`, {
      ...manifest,
      metadata,
    });
    return created.name;
  }

  async function read(name: string, selected?: readonly string[]): Promise<VmSnapshotState> {
    const snapshot = await kubevirt.send('GET', `${place('virtualmachinesnapshots')}/${name}`);
    const contentName = snapshot.status?.virtualMachineSnapshotContentName;
    const content = contentName && (await kubevirt.send('GET', `${place('virtualmachinesnapshotcontents')}/${contentName}`));
    return readVmSnapshot(snapshot, content, selected);
  }

  async function untilState(name: string, isRight: (state: VmSnapshotState) => boolean): Promise<VmSnapshotState> {
    let state: VmSnapshotState = { state: 'pending', message: '' };
    for (const endMs = performance.now() + MAX_WAIT_MS; performance.now() < endMs; await sleep(100)) {
      state = await read(name);
      if (isRight(state)) return state;
    }
    return assert.fail(`the snapshot stays ${JSON.stringify(state)}`);
  }

  const untilReady = (name: string) => untilState(name, ({ state }) => state === 'ready');
  const untilMessage = (name: string, text: RegExp) => untilState(name, (state) => 'message' in state && text.test(state.message));

  return { place, vmOf, vmiOf, eventually, createVm, createRunningVm, takeSnapshot, read, untilState, untilReady, untilMessage };
}
