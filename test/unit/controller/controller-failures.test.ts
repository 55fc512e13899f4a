/** The controller on a cluster in memory: every call may fail, hang, or be the last one of the process. */

import assert from 'node:assert/strict';
import { type Fault, type FaultKind, runScene, type SceneRun } from '../../helpers/fleet/fleet-scene.ts';
import type { MemoryFleet } from '../../helpers/fleet/memory-fleet.ts';
import { BACKUP_FAILURES, BACKUP_SUCCESSES } from './backup-scenes.ts';
import { type ExpectedScene, FAILURES, IN_USE, LIVE, LOST, RUNNING_VM, SUCCESSES } from './controller-scenes.ts';

const KINDS: readonly FaultKind[] = ['refuse', 'lose', 'kill after'];

/** `kill before` is nearly `kill after` at the call before. */
const RARE_KINDS: readonly FaultKind[] = ['hang', 'conflict', 'kill before'];

/** The lists and watches of the caches, and what a process asks once. */
const OF_THE_PROCESS = /^(list|watch) /;

const CHILDREN = /^(jobs|configMaps|persistentVolumeClaims|volumeSnapshots|virtualMachineSnapshots|serviceAccounts|roleBindings) /;

function madeByController({ created }: SceneRun): string[] {
  return created.filter((name) => CHILDREN.test(name) && /disklift-/.test(name));
}

/** @param before names of the objects of users */
function assertClean(run: SceneRun, { stays }: ExpectedScene, what: string): void {
  const users =
    /^(exports|namespaces|storageClasses|volumeSnapshotClasses|virtualMachines|virtualMachineInstances|virtualMachineBackups) |vms\/(root|data|monday|virt-launcher-db01)$|^volumeSnapshotContents content-1$/;
  const left = run.names.filter((name) => !users.test(name) && !(stays?.test(name) ?? false));
  assert.deepEqual(left, [], `${what}: objects are left`);
  for (const { metadata, status } of run.fleet.all('exports')) {
    assert.deepEqual(metadata.finalizers ?? [], [], `${what}: the finalizer`);
    assert.ok(!(status?.disks ?? []).some(({ upload }: { upload?: object }) => upload), `${what}: an upload is open`);
  }
}

function assertEnd(run: SceneRun, scene: ExpectedScene, what: string): void {
  const told = `${what}\n${run.calls.map((call, index) => `${index} ${call}`).join('\n')}\n${run.warnings.join('\n')}`;
  assert.deepEqual(run.ends, [`nightly: ${scene.end}`], told);
  assert.ok(run.hasSettled, `${told}: has not settled: ${run.names}`);
  assertClean(run, scene, told);
  // The rights of workers are removed while no export of the namespace has a slot.
  const isAgain = (name: string, index: number, all: string[]) => / vms\/disklift-worker$/.test(name) && all.indexOf(name) < index;
  const made = madeByController(run).filter((...each) => !isAgain(...each));
  const kinds = made.map((name) => name.split(' ')[0]);
  assert.deepEqual(kinds.toSorted(), scene.creates.split(' ').filter(Boolean).toSorted(), `${told}: created`);
  assert.ok(run.mostWorkers <= 1, `${told}: ${run.mostWorkers} workers at a time`);
  const [object] = run.fleet.all('exports');
  if (scene.words !== undefined) assert.match(object?.status.message, scene.words, what);
}

async function runWith(scene: ExpectedScene, fault: Fault, calls: readonly string[]): Promise<void> {
  assertEnd(await runScene(scene, fault), scene, `${fault.kind} at ${fault.index}: ${calls[fault.index]}`);
}

describe('the controller', function () {
  this.timeout(60_000);

  for (const scene of [...SUCCESSES, ...BACKUP_SUCCESSES, ...FAILURES, ...BACKUP_FAILURES]) {
    let whole: SceneRun;

    it(`brings the export to its end: ${scene.name}`, async () => {
      whole = await runScene(scene);
      assertEnd(whole, scene, 'without a fault');
      assert.deepEqual(
        whole.warnings.filter((text) => !/quota|is not installed/.test(text)),
        [],
      );
      const requests = whole.calls.filter((call) => !OF_THE_PROCESS.test(call) || / storageClasses| volumeSnapshotClasses/.test(call));
      if (scene.maxRequests !== undefined)
        assert.ok(requests.length <= scene.maxRequests, `${requests.length} requests:\n${requests.join('\n')}`);
    });

    for (const kind of SUCCESSES.includes(scene) ? [...KINDS, ...RARE_KINDS] : KINDS)
      it(`comes to the same end with a fault (${kind}) at each call: ${scene.name}`, async () => {
        for (const index of whole.calls.keys()) {
          // One scene has the calls of every process, and events.
          if (scene !== LIVE && /^(list|watch) | events /.test(whole.calls[index] ?? '')) continue;
          await runWith(scene, { index, kind }, whole.calls);
        }
      });
  }

  const cancel = (fleet: MemoryFleet) => {
    for (const object of fleet.all('exports')) fleet.patch('exports', object, { spec: { cancel: true } });
  };
  const remove = (fleet: MemoryFleet) => {
    for (const object of fleet.all('exports')) fleet.remove('exports', object);
  };
  const removeNamespace = (fleet: MemoryFleet) => {
    for (const object of fleet.all('namespaces')) fleet.remove('namespaces', object);
  };

  for (const scene of [LIVE, IN_USE, RUNNING_VM, LOST]) {
    it(`leaves nothing behind when the export is cancelled before any call: ${scene.name}`, async () => {
      const { calls } = await runScene(scene);
      for (const index of calls.keys()) {
        const run = await runScene(scene, { index, kind: 'act', act: cancel });
        const what = `cancelled at ${index}: ${calls[index]}`;
        assert.match(run.ends[0] ?? '', /^nightly: (Cancelled Cancelled|Succeeded|Failed WorkerFailed)/, what);
        assert.ok(run.hasSettled, `${what}: ${run.names}\n${run.calls.join('\n')}`);
        assertClean(run, scene, what);
      }
    });

    it(`leaves nothing behind when the export is deleted before any call: ${scene.name}`, async () => {
      const { calls } = await runScene(scene);
      for (const index of calls.keys()) {
        const run = await runScene(scene, { index, kind: 'act', act: remove });
        const what = `deleted at ${index}: ${calls[index]}`;
        assert.deepEqual(run.ends, [], what);
        assert.ok(run.hasSettled, `${what}: ${run.names}\n${run.calls.join('\n')}`);
        assertClean(run, scene, what);
      }
    });

    it(`holds up no namespace that is deleted before any call: ${scene.name}`, async () => {
      const { calls } = await runScene(scene);
      for (const index of calls.keys()) {
        const run = await runScene(scene, { index, kind: 'act', act: removeNamespace });
        const what = `namespace deleted at ${index}: ${calls[index]}`;
        assert.ok(run.hasSettled, `${what}: ${run.names}\n${run.calls.join('\n')}`);
        assert.deepEqual(
          run.names.filter((name) => name.includes('vms')),
          [],
          what,
        );
      }
    });
  }
});
