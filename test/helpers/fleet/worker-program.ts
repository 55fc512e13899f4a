/** The worker of an export, as the API server sees it: it writes the status as the engine does, without any disk. */

import type { MemoryFleet, StoredObject } from './memory-fleet.ts';

/**
 * Succeeds: the images arrive. Refused: the export fails with an upload aborted. Exits: the process fails before it
 * claims the export. Killed: the process is lost while an upload is open. Stopped: it ends by SIGTERM then, without the
 * finalizer. Hangs: it does nothing more while its upload is open. Lost: so does its node.
 */
export type WorkerPlan = 'succeeds' | 'refused' | 'exits' | 'killed' | 'stopped' | 'hangs' | 'lost';

const FINALIZER = 'disklift.dev/cleanup';
const NOW = '2026-01-01T00:01:00Z';

interface Run {
  /** Seconds since the pod runs. */
  age: number;
  plan: WorkerPlan;
}

export function runWorker(fleet: MemoryFleet, pod: StoredObject, { age, plan }: Run): unknown {
  const { namespace, name: podName, uid: podUID, annotations = {}, deletionTimestamp } = pod.metadata;
  const { env, args } = pod.spec.containers[0];
  const variableOf = (name: string) => env.find((each: { name: string }) => each.name === name)?.value;
  const end = (exitCode: number) => {
    const state = { terminated: { exitCode, reason: exitCode === 0 ? 'Completed' : 'Error' } };
    fleet.patch('pods', pod, {
      status: { phase: exitCode === 0 ? 'Succeeded' : 'Failed', containerStatuses: [{ name: 'disklift', state }] },
    });
  };
  const target = { namespace, name: args[2] };
  const found = () => fleet.find('exports', target);
  const request = found();
  if (plan === 'lost' && age > 2) return;
  if (plan === 'hangs' && age > 2) return deletionTimestamp === undefined || end(137);
  // SIGTERM: the process leaves its upload open, and the finalizer for the next process.
  if (deletionTimestamp !== undefined) return end(143);
  const isPermitted = fleet.find('roleBindings', { namespace, name: pod.spec.serviceAccountName }) !== undefined;
  if (!isPermitted || plan === 'exits') return end(1);
  if (request === undefined || request.metadata.name !== annotations['disklift.dev/export']) return end(3);
  const setUpload = (isOpen: boolean) => {
    const current = found();
    if (current === undefined) return;
    const upload = isOpen ? { id: 'upload-1', partSize: 1, fingerprint: 'a' } : null;
    const disks = [{ path: 'disk.img', phase: isOpen ? 'Streaming' : 'Pending', attempts: 1, ...(upload && { upload }) }];
    if (current.status?.completionTime === undefined || !isOpen) fleet.patch('exports', current, { status: { disks } });
    const others = (current.metadata.finalizers ?? []).filter((each) => each !== FINALIZER);
    fleet.patch('exports', current, { metadata: { finalizers: isOpen ? [...others, FINALIZER] : others } });
  };
  const finish = (phase: string, reason: string, exitCode: number) => {
    const current = found() as StoredObject;
    if (current.status?.completionTime === undefined) {
      const condition = { reason, message: reason, lastTransitionTime: NOW };
      const conditions = [
        { type: 'Succeeded', status: phase === 'Succeeded' ? 'True' : 'False', ...condition },
        { type: 'Finished', status: 'True', ...condition },
        ...(current.status?.conditions ?? []).filter(({ type }: { type: string }) => type === 'VolumesLeftOut'),
      ];
      fleet.patch('exports', current, { status: { phase, message: reason, completionTime: NOW, conditions } });
    }
    setUpload(false);
    end(exitCode);
  };
  const isOver = request.metadata.deletionTimestamp !== undefined || request.status?.completionTime !== undefined;
  if (variableOf('DISKLIFT_WORKER') === 'Cleanup') {
    if (isOver) setUpload(false);
    return end(0);
  }
  if (request.status?.completionTime !== undefined) return end(request.status.phase === 'Succeeded' ? 0 : 3);
  if (isOver) {
    setUpload(false);
    return end(3);
  }
  if (request.spec.cancel) return finish('Cancelled', 'Cancelled', 3);
  if (age === 1) {
    const { startTime = NOW } = request.status ?? {};
    const conditions = [
      { type: 'Succeeded', status: 'Unknown', reason: 'Streaming', message: 'is sent', lastTransitionTime: NOW },
      ...(request.status?.conditions ?? []).filter(({ type }: { type: string }) => type === 'VolumesLeftOut'),
    ];
    const executor = { podName, podUID, nodeName: 'node-a' };
    return fleet.patch('exports', request, { status: { phase: 'Streaming', message: 'is sent', startTime, conditions, executor } });
  }
  if (age === 2) return setUpload(true);
  if (age < 5) return;
  if (plan === 'killed') return end(137);
  if (plan === 'stopped') {
    fleet.patch('exports', request, { metadata: { finalizers: [] } });
    return end(143);
  }
  if (plan === 'refused') return finish('Failed', 'DestinationRejected', 3);
  return finish('Succeeded', 'Completed', 0);
}
