/**
 * Finds a container that may write to a claim, by the pods of its namespace: the only proof where a disk has no locks.
 */

import { DiskliftError, isStoreFailure } from '../../../common/errors.ts';
import { isApiFailure } from '../client/api-failure.ts';
import type { KubeApi } from '../client/contract.ts';
import type { ContainerSpec, PodObject, VolumeUse } from '../client/objects.ts';

/** The container of this process, which never writes. */
export interface OwnContainer {
  podUID?: string | undefined;
  /** Undefined when it is not configured: then every container of the pod counts as another's. */
  containerName?: string | undefined;
}

export type WriterSearch =
  | { kind: 'none' }
  /** `who` in words: a container and its pod. */
  | { kind: 'writer'; who: string }
  | { kind: 'unknown'; why: string };

export interface PodWritersOptions {
  pods: Pick<KubeApi['pods'], 'list'>;
  namespace: string;
  own: OwnContainer;
}

/** @throws DiskliftError `InUseUnknown`, retryable, while the API server does not answer */
export async function findPodWriter(claimName: string, { pods, namespace, own }: PodWritersOptions): Promise<WriterSearch> {
  try {
    const { items } = await pods.list(namespace);
    const who = podWriterOf(items, claimName, own);
    return who === undefined ? { kind: 'none' } : { kind: 'writer', who };
  } catch (error) {
    if (isApiFailure(error, 'Forbidden') || isApiFailure(error, 'Unauthorized'))
      return { kind: 'unknown', why: `its Role does not let this process list the pods of ${namespace}` };
    if (!isStoreFailure(error)) throw error;
    const { retryAfterMs } = error;
    const message = `${claimName}: whether a pod writes to it is not known: ${error.message}`;
    throw new DiskliftError('InUseUnknown', message, error, { retryable: true, retryAfterMs });
  }
}

/** @returns the first container that has the claim and could write to it, in words */
export function podWriterOf(pods: readonly PodObject[], claimName: string, own: OwnContainer): string | undefined {
  for (const pod of pods) {
    const { name, uid } = pod.metadata;
    const volumes = (pod.spec.volumes ?? []).filter((volume) => isWritable(volume, pod, claimName)).map((volume) => volume.name);
    if (volumes.length === 0) continue;
    for (const container of containersOf(pod)) {
      const isOwn = uid === own.podUID && container.name === own.containerName;
      if (!isOwn && writes(container, volumes) && !hasEnded(container, pod)) return `the container ${container.name} of the pod ${name}`;
    }
  }
  return undefined;
}

function isWritable({ name, persistentVolumeClaim, ephemeral }: VolumeUse, { metadata }: PodObject, claimName: string): boolean {
  if (persistentVolumeClaim !== undefined) return persistentVolumeClaim.claimName === claimName && persistentVolumeClaim.readOnly !== true;
  return ephemeral !== undefined && `${metadata.name}-${name}` === claimName;
}

function containersOf({ spec: { containers, initContainers = [], ephemeralContainers = [] } }: PodObject): ContainerSpec[] {
  return [...initContainers, ...containers, ...ephemeralContainers];
}

function writes({ volumeMounts = [], volumeDevices = [] }: ContainerSpec, volumes: readonly string[]): boolean {
  return (
    volumeMounts.some(({ name, readOnly }) => readOnly !== true && volumes.includes(name)) ||
    volumeDevices.some(({ name }) => volumes.includes(name))
  );
}

/** False for a container that has not started yet, or that the kubelet will start again. */
function hasEnded({ name, restartPolicy }: ContainerSpec, { spec, status = {} }: PodObject): boolean {
  if (status.phase === 'Succeeded' || status.phase === 'Failed') return true;
  const { containerStatuses = [], initContainerStatuses = [], ephemeralContainerStatuses = [] } = status;
  const { state } =
    [...containerStatuses, ...initContainerStatuses, ...ephemeralContainerStatuses].find((each) => each.name === name) ?? {};
  if (state?.terminated === undefined || restartPolicy === 'Always') return false;
  // The kubelet never restarts an ephemeral container, and an init container only after a failure.
  if (ephemeralContainerStatuses.some((each) => each.name === name) || spec.restartPolicy === 'Never') return true;
  const isMain = spec.containers.some((each) => each.name === name);
  return state.terminated.exitCode === 0 && (!isMain || spec.restartPolicy === 'OnFailure');
}
