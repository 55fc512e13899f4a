/** A pod of an export's Job, and why it does not run. Pure. */

import { oneLine } from '../common/text.ts';
import type { FleetPodObject } from '../stores/kubernetes/client/fleet-objects.ts';
import type { EventObject } from '../stores/kubernetes/client/objects.ts';
import type { PodProblem, WorkerPod } from './observed.ts';

/** The kubelet's and the container runtime's reasons of a container that waits, by the word that users see. */
const WAITING_REASONS: Readonly<Record<string, string>> = {
  ErrImagePull: 'ImagePullFailed',
  ImagePullBackOff: 'ImagePullFailed',
  ErrImageNeverPull: 'ImagePullFailed',
  InvalidImageName: 'ImagePullFailed',
  ImageInspectError: 'ImagePullFailed',
  RegistryUnavailable: 'ImagePullFailed',
  CreateContainerConfigError: 'ContainerFailed',
  CreateContainerError: 'ContainerFailed',
  RunContainerError: 'ContainerFailed',
  CrashLoopBackOff: 'ContainerFailed',
};

/** Time after the end of a deleted pod's grace period in which its kubelet must have reported that it is gone. */
const LOST_MS = 60_000;

export function workerPodOf(pod: FleetPodObject, nowMs: number): WorkerPod {
  const { metadata, spec, status = {} } = pod;
  return {
    name: metadata.name,
    uid: metadata.uid,
    phase: status.phase ?? 'Pending',
    // The timestamp is the end of the grace period.
    isLost: !hasEnded(status.phase) && nowMs >= Date.parse(metadata.deletionTimestamp ?? '') + LOST_MS,
    nodeName: spec.nodeName,
    problem: problemOf(pod),
  };
}

function hasEnded(phase: string | undefined): boolean {
  return phase === 'Succeeded' || phase === 'Failed';
}

function problemOf({ status = {} }: FleetPodObject): PodProblem | undefined {
  const scheduled = status.conditions?.find(({ type }) => type === 'PodScheduled');
  if (scheduled?.status === 'False') return { reason: 'Unschedulable', message: textOf('no node can run the pod', scheduled.message) };
  const [container] = status.containerStatuses ?? [];
  const { waiting, terminated } = container?.state ?? {};
  const reason = waiting?.reason === undefined ? undefined : WAITING_REASONS[waiting.reason];
  if (waiting !== undefined && reason !== undefined) return { reason, message: textOf(String(waiting.reason), waiting.message) };
  if (status.phase === 'Failed') {
    const why = terminated === undefined ? [status.reason, status.message] : [terminated.reason, exitOf(terminated), terminated.message];
    return { reason: 'WorkerFailed', message: textOf('the pod failed', why.filter((each) => each !== undefined).join(', ')) };
  }
  return undefined;
}

function exitOf({ exitCode, signal }: { exitCode: number; signal?: number }): string {
  return signal === undefined || signal === 0 ? `exit code ${exitCode}` : `signal ${signal}`;
}

function textOf(what: string, detail: string | undefined): string {
  const text = oneLine(detail ?? '');
  return text === '' ? what : `${what}: ${text}`;
}

/** Reasons of events that explain why a scheduled pod does not start, or why a Job makes no pod. */
const EVENT_REASONS: Readonly<Record<string, string>> = {
  FailedAttachVolume: 'VolumeAttachFailed',
  FailedMount: 'VolumeMountFailed',
  FailedMapVolume: 'VolumeMountFailed',
  FailedScheduling: 'Unschedulable',
  FailedCreate: 'PodRefused',
  FailedCreatePodSandBox: 'ContainerFailed',
  Failed: 'ContainerFailed',
  ProvisioningFailed: 'CloneFailed',
};

/** @returns the latest warning among the events of a pod, a Job or a claim that explains why it waits */
export function problemOfEvents(events: readonly EventObject[]): PodProblem | undefined {
  const known = events.filter(({ type, reason }) => type === 'Warning' && reason !== undefined && EVENT_REASONS[reason] !== undefined);
  const [latest] = known.toSorted((a, b) => timeOf(b) - timeOf(a));
  if (latest === undefined) return undefined;
  const reason = EVENT_REASONS[latest.reason as string] as string;
  const message = oneLine(latest.message ?? '');
  return { reason: reason === 'PodRefused' && /exceeded quota/.test(message) ? 'QuotaExceeded' : reason, message };
}

function timeOf({ lastTimestamp, eventTime, metadata }: EventObject): number {
  return Date.parse(lastTimestamp ?? eventTime ?? metadata.creationTimestamp ?? '') || 0;
}
