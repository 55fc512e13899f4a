/** Objects without the fields that the controller does not need: it keeps thousands of them. Pure. */

import { isFields } from '../resource/schema.ts';
import type { FleetPodObject } from '../stores/kubernetes/client/fleet-objects.ts';
import type { ContainerSpec, ExportObject, KubeObject } from '../stores/kubernetes/client/objects.ts';
import { exportKeyOf } from './export-objects.ts';

const KUBECTL_COPY = 'kubectl.kubernetes.io/last-applied-configuration';

/** Without managedFields, which is often the largest part of an object, and kubectl's copy of the manifest. */
export function slimMetadata<T extends KubeObject>(object: T): T {
  const { managedFields: _, annotations, ...metadata } = object.metadata as T['metadata'] & { managedFields?: unknown };
  if (annotations === undefined) return { ...object, metadata };
  const { [KUBECTL_COPY]: __, ...kept } = annotations;
  return { ...object, metadata: { ...metadata, annotations: kept } };
}

/** Keeps the result and the open uploads of an export that has ended, not its disks: there are thousands of them. */
export function slimExport(object: ExportObject): ExportObject {
  const { status, ...rest } = slimMetadata(object);
  if (!isFields(status) || status.completionTime === undefined) return { ...rest, status };
  const { phase, disks, conditions } = status;
  const kept = phase === 'Succeeded' ? RESULT : [...RESULT, 'message'];
  const open = Array.isArray(disks) ? disks.filter((disk) => isFields(disk) && disk.upload !== undefined) : [];
  const reasons = Array.isArray(conditions) ? conditions.filter((each) => isFields(each) && each.type === 'Succeeded') : [];
  return {
    ...rest,
    status: {
      ...Object.fromEntries(kept.filter((name) => status[name] !== undefined).map((name) => [name, status[name]])),
      ...(phase === 'Succeeded' || reasons.length === 0 ? {} : { conditions: reasons }),
      ...(open.length === 0 ? {} : { disks: open }),
    },
  };
}

/** The page of the controller shows these. */
const RESULT = ['phase', 'startTime', 'completionTime', 'consistency', 'snapshotTime', 'progress'];

/** Keeps of a pod of others what shows which claims it uses, how, and whether it is a sidecar. */
export function slimPod(pod: FleetPodObject): FleetPodObject {
  const { metadata, spec, status = {} } = pod;
  const { name, namespace, uid, resourceVersion, labels, deletionTimestamp, annotations, creationTimestamp } = metadata;
  const isWorker = exportKeyOf(metadata) !== undefined;
  const volumes = (spec.volumes ?? []).filter((volume) => volume.persistentVolumeClaim !== undefined || volume.ephemeral !== undefined);
  const slim = { name, namespace, uid, resourceVersion, ...(deletionTimestamp === undefined ? {} : { deletionTimestamp }) };
  if (volumes.length === 0 && !isWorker) return { metadata: slim, spec: { containers: [] } };
  const { phase, reason, message, conditions, containerStatuses, initContainerStatuses, ephemeralContainerStatuses } = status;
  return {
    metadata: {
      ...slim,
      ...(creationTimestamp === undefined ? {} : { creationTimestamp }),
      ...(labels === undefined ? {} : { labels }),
      ...(isWorker && annotations !== undefined ? { annotations } : {}),
    },
    spec: {
      ...(spec.nodeName === undefined ? {} : { nodeName: spec.nodeName }),
      ...(spec.restartPolicy === undefined ? {} : { restartPolicy: spec.restartPolicy }),
      volumes: volumes.map(({ name: volumeName, persistentVolumeClaim, ephemeral }) => ({
        name: volumeName,
        ...(persistentVolumeClaim === undefined ? {} : { persistentVolumeClaim }),
        ...(ephemeral === undefined ? {} : { ephemeral: {} }),
      })),
      containers: spec.containers.map(slimContainer),
      ...(spec.initContainers === undefined ? {} : { initContainers: spec.initContainers.map(slimContainer) }),
      ...(spec.ephemeralContainers === undefined ? {} : { ephemeralContainers: spec.ephemeralContainers.map(slimContainer) }),
    },
    status: {
      ...(phase === undefined ? {} : { phase }),
      ...(reason === undefined ? {} : { reason }),
      ...(message === undefined ? {} : { message }),
      ...(conditions === undefined ? {} : { conditions: conditions.filter(({ type }) => type === 'PodScheduled') }),
      ...(containerStatuses === undefined ? {} : { containerStatuses: containerStatuses.map(slimStatus) }),
      ...(initContainerStatuses === undefined ? {} : { initContainerStatuses: initContainerStatuses.map(slimStatus) }),
      ...(ephemeralContainerStatuses === undefined ? {} : { ephemeralContainerStatuses: ephemeralContainerStatuses.map(slimStatus) }),
    },
  };
}

type Status = NonNullable<NonNullable<FleetPodObject['status']>['containerStatuses']>[number];

function slimStatus({ name, state }: Status): Status {
  return { name, ...(state === undefined ? {} : { state }) };
}

function slimContainer({ name, restartPolicy, volumeMounts, volumeDevices, args, command, env }: ContainerSpec): ContainerSpec {
  const isSidecar = args?.includes('sidecar') || command?.includes('sidecar');
  return {
    name,
    ...(restartPolicy === undefined ? {} : { restartPolicy }),
    ...(volumeMounts === undefined ? {} : { volumeMounts }),
    ...(volumeDevices === undefined ? {} : { volumeDevices }),
    ...(isSidecar
      ? { args: args ?? [], command: command ?? [], env: (env ?? []).filter(({ name: each }) => each.startsWith('DISKLIFT_')) }
      : {}),
  };
}
