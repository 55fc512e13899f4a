/** The Job that exports: one pod with all volumes of the export, read-only. Pure. */

import type { DiskExport } from '../resource/disk-export.ts';
import { VM_MANIFEST } from '../resource/source-kinds.ts';
import type { NewObject } from './decision.ts';
import { annotationsOf, childMetadata, cleanupName, labelsOf, objectName } from './export-objects.ts';
import type { MetadataFacts } from './observed.ts';

export interface WorkerVolume {
  /** Name of the volume towards the worker. */
  key: string;
  /** Claim that the pod mounts: the source itself, or a clone. */
  claimName: string;
  isBlock: boolean;
}

/** The parts of the Job that an administrator sets. */
export interface JobTemplate {
  image: string;
  imagePullPolicy: string;
  serviceAccountName: string;
  labels: Readonly<Record<string, string>>;
  annotations: Readonly<Record<string, string>>;
  nodeSelector: Readonly<Record<string, string>>;
  tolerations: readonly object[];
  imagePullSecrets: readonly object[];
  priorityClassName: string | undefined;
  resources: object;
  /** Environment variables beside those that the controller sets. */
  env: readonly { name: string; [field: string]: unknown }[];
  /** KubeVirt: user and group 107. OpenShift: none, because the namespace's constraint chooses them. */
  securityContextMode: 'KubeVirt' | 'OpenShift';
  /** SELinux level of the pods. Empty: the container runtime chooses it. */
  seLinuxLevel: string;
  /** As in a pod. Kubernetes before 1.32 does not know the field. Empty: the field is left out. */
  seLinuxChangePolicy?: string | undefined;
}

export interface WorkerJobOptions {
  volumes: readonly WorkerVolume[];
  /** PointInTime: the volumes are clones that nobody writes to. */
  worker: 'Live' | 'PointInTime';
  /** Whether the pod has vm.yaml from the export's ConfigMap. */
  hasManifest: boolean;
  /** Claims by the name of their volume, where the two differ. */
  claimOf: readonly { key: string; claimName: string }[];
  /** Node on which a claim is attached that only one node may have. */
  node: string | undefined;
  template: JobTemplate;
  metadata?: MetadataFacts | undefined;
  /** All pods of the Job read the backup that was there when the Job was made. */
  backupUid?: string | undefined;
}

/** Retries by Kubernetes after lost pods. disklift itself makes the attempts, and counts lost runs. */
const BACKOFF_LIMIT = 6;

/** Kubernetes deletes a Job that the controller does not delete. */
const TTL_SECONDS = 3600;

const CONTAINER = 'disklift';

export function workerJobOf(request: DiskExport, options: WorkerJobOptions): NewObject {
  const { volumes, worker, hasManifest, claimOf, node, template, metadata, backupUid } = options;
  const args = ['sidecar', '--once', request.metadata.name];
  for (const [index, volume] of volumes.entries()) args.push('--volume', `${volume.key}=${pathOf(volume, index)}`);
  return jobOf(request, objectName(request), {
    template,
    args,
    env: [
      { name: 'DISKLIFT_WORKER', value: worker },
      ...(hasManifest ? [{ name: 'DISKLIFT_MANIFEST_FILE', value: `${MANIFEST_DIRECTORY}/${VM_MANIFEST}` }] : []),
      ...(claimOf.length === 0
        ? []
        : [{ name: 'DISKLIFT_CLAIM_OF', value: claimOf.map(({ key, claimName }) => `${key}=${claimName}`).join(',') }]),
      ...(metadata === undefined ? [] : [{ name: 'DISKLIFT_SNAPSHOT_METADATA', value: metadataSetting(metadata) }]),
      ...(backupUid === undefined ? [] : [{ name: 'DISKLIFT_BACKUP_UID', value: backupUid }]),
    ],
    volumes: [
      ...volumes.map(({ claimName }, index) => ({
        name: volumeName(index),
        persistentVolumeClaim: { claimName, readOnly: true },
      })),
      ...(hasManifest ? [{ name: 'manifest', configMap: { name: objectName(request) } }] : []),
      ...(metadata?.kind === 'service' ? [tokenVolume(metadata.audience)] : []),
    ],
    volumeDevices: volumes.flatMap((volume, index) =>
      volume.isBlock ? [{ name: volumeName(index), devicePath: pathOf(volume, index) }] : [],
    ),
    volumeMounts: [
      ...volumes.flatMap((volume, index) =>
        volume.isBlock ? [] : [{ name: volumeName(index), mountPath: pathOf(volume, index), readOnly: true }],
      ),
      ...(hasManifest ? [{ name: 'manifest', mountPath: MANIFEST_DIRECTORY, readOnly: true }] : []),
      ...(metadata?.kind === 'service' ? [{ name: METADATA_TOKEN, mountPath: TOKEN_DIRECTORY, readOnly: true }] : []),
    ],
    affinity: node === undefined ? undefined : onNode(node),
  });
}

/** The Job that aborts the uploads of an export whose volumes are not needed any more. */
export function cleanupJobOf(request: DiskExport, template: JobTemplate): NewObject {
  return jobOf(request, cleanupName(request), {
    template,
    args: ['sidecar', '--once', request.metadata.name],
    env: [{ name: 'DISKLIFT_WORKER', value: 'Cleanup' }],
    volumes: [],
    volumeDevices: [],
    volumeMounts: [],
    affinity: undefined,
  });
}

const METADATA_TOKEN = 'metadata-token';
const TOKEN_DIRECTORY = '/var/run/secrets/disklift.dev/snapshot-metadata';

/** The kubelet renews a token when four fifths of its time are over. */
const TOKEN_SECONDS = 3600;

/** The worker's account, for the audience of the service alone. */
function tokenVolume(audience: string): object {
  const serviceAccountToken = { audience, expirationSeconds: TOKEN_SECONDS, path: 'token' };
  return { name: METADATA_TOKEN, projected: { sources: [{ serviceAccountToken }] } };
}

/** @returns the setting snapshotMetadata of the worker */
function metadataSetting(metadata: MetadataFacts): string {
  if (metadata.kind === 'none') return JSON.stringify({ problem: metadata.message });
  const { driver, address, caCert, snapshot } = metadata;
  return JSON.stringify({ driver, address, caCert, ...snapshot, tokenFile: `${TOKEN_DIRECTORY}/token` });
}

const MANIFEST_DIRECTORY = '/etc/disklift/vm';

function volumeName(index: number): string {
  return `disk-${index}`;
}

function pathOf({ isBlock }: WorkerVolume, index: number): string {
  return isBlock ? `/dev/vmdisk${index}` : `/disks/${index}`;
}

function onNode(name: string): object {
  const terms = [{ matchFields: [{ key: 'metadata.name', operator: 'In', values: [name] }] }];
  return { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: terms } } };
}

interface JobParts {
  template: JobTemplate;
  args: readonly string[];
  env: readonly object[];
  volumes: readonly object[];
  volumeDevices: readonly object[];
  volumeMounts: readonly object[];
  affinity: object | undefined;
}

function jobOf(request: DiskExport, name: string, parts: JobParts): NewObject {
  const { template, args, env, volumes, volumeDevices, volumeMounts, affinity } = parts;
  const metadata = childMetadata(request, name);
  return {
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: { ...metadata, labels: { ...template.labels, ...metadata.labels } },
    spec: {
      backoffLimit: BACKOFF_LIMIT,
      ttlSecondsAfterFinished: TTL_SECONDS,
      // A second pod never begins while the first one may still have the claim.
      podReplacementPolicy: 'Failed',
      podFailurePolicy: {
        rules: [
          { action: 'Ignore', onPodConditions: [{ type: 'DisruptionTarget', status: 'True' }] },
          // The export has ended without success; another pod would not change that.
          { action: 'FailJob', onExitCodes: { containerName: CONTAINER, operator: 'In', values: [3] } },
        ],
      },
      template: {
        metadata: {
          labels: { ...template.labels, ...labelsOf(request) },
          annotations: { ...template.annotations, ...annotationsOf(request) },
        },
        spec: {
          restartPolicy: 'Never',
          serviceAccountName: template.serviceAccountName,
          automountServiceAccountToken: true,
          enableServiceLinks: false,
          // The process stops in a few seconds and leaves its uploads open for the next process to resume.
          terminationGracePeriodSeconds: 30,
          securityContext: podSecurityOf(template),
          ...(template.imagePullSecrets.length === 0 ? {} : { imagePullSecrets: template.imagePullSecrets }),
          ...(Object.keys(template.nodeSelector).length === 0 ? {} : { nodeSelector: template.nodeSelector }),
          ...(template.tolerations.length === 0 ? {} : { tolerations: template.tolerations }),
          ...(template.priorityClassName === undefined ? {} : { priorityClassName: template.priorityClassName }),
          ...(affinity === undefined ? {} : { affinity }),
          containers: [
            {
              name: CONTAINER,
              image: template.image,
              imagePullPolicy: template.imagePullPolicy,
              args,
              env: [...POD_FACTS, ...env, ...template.env],
              ports: [{ name: 'http', containerPort: 9474 }],
              resources: template.resources,
              securityContext: {
                allowPrivilegeEscalation: false,
                readOnlyRootFilesystem: true,
                capabilities: { drop: ['ALL'] },
              },
              ...(volumeDevices.length === 0 ? {} : { volumeDevices }),
              ...(volumeMounts.length === 0 ? {} : { volumeMounts }),
            },
          ],
          ...(volumes.length === 0 ? {} : { volumes }),
        },
      },
    },
  };
}

/** Pod Security `restricted`. There is no fsGroup: it would change the group of the VM's files. */
function podSecurityOf({ securityContextMode, seLinuxLevel, seLinuxChangePolicy = '' }: JobTemplate): object {
  return {
    runAsNonRoot: true,
    ...(securityContextMode === 'KubeVirt' ? { runAsUser: 107, runAsGroup: 107 } : {}),
    ...(seLinuxLevel === '' ? {} : { seLinuxOptions: { level: seLinuxLevel } }),
    ...(seLinuxChangePolicy === '' ? {} : { seLinuxChangePolicy }),
    seccompProfile: { type: 'RuntimeDefault' },
  };
}

function fieldOf(name: string, fieldPath: string): object {
  return { name, valueFrom: { fieldRef: { fieldPath } } };
}

const POD_FACTS: readonly object[] = [
  fieldOf('DISKLIFT_NAMESPACE', 'metadata.namespace'),
  fieldOf('DISKLIFT_POD_NAME', 'metadata.name'),
  fieldOf('DISKLIFT_POD_UID', 'metadata.uid'),
  fieldOf('DISKLIFT_NODE_NAME', 'spec.nodeName'),
  fieldOf('DISKLIFT_NODE_ADDRESSES', 'status.hostIPs'),
  { name: 'DISKLIFT_CONTAINER_NAME', value: CONTAINER },
];
