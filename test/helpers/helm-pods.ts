/** The fields of pods and Deployments that the tests read, and assertions that hold for every pod of the chart. */

import assert from 'node:assert/strict';

interface Container {
  name: string;
  image: string;
  command?: string[];
  args?: string[];
  env?: { name: string; value?: string }[];
  securityContext: { capabilities: { drop: string[]; add?: string[] } } & Record<string, unknown>;
  volumeMounts?: { name: string; mountPath: string; readOnly?: boolean }[];
  volumeDevices?: { name: string; devicePath: string }[];
  resources?: unknown;
  livenessProbe?: unknown;
  readinessProbe?: unknown;
}

export interface PodSpec extends Record<string, unknown> {
  securityContext: Record<string, unknown>;
  containers: Container[];
  initContainers?: Container[];
  volumes: { name: string; persistentVolumeClaim: { claimName: string; readOnly?: boolean } }[];
}

export interface Manifest {
  apiVersion: string;
  kind: string;
  metadata: { name: string; namespace?: string; labels?: Record<string, string>; annotations?: Record<string, string> };
}

/** Whether the object is one of a hook, which Helm does not make with the release. */
export function isOfHook({ annotations }: Manifest['metadata']): boolean {
  return annotations?.['helm.sh/hook'] !== undefined;
}

export interface Pod extends Manifest {
  spec: PodSpec;
}

/** A Deployment or a Job. */
export interface Workload extends Manifest {
  spec: Record<string, unknown> & {
    replicas: number;
    strategy: unknown;
    selector: { matchLabels: Record<string, string> };
    template: { metadata: { labels: Record<string, string>; annotations?: Record<string, string> }; spec: PodSpec };
  };
}

export interface Role extends Manifest {
  rules: { apiGroups: string[]; resources: string[]; resourceNames?: string[]; verbs: string[] }[];
}

/** Volumes with the Secrets of the sidecar's HTTP server. */
const SECRET_VOLUMES = ['certificate', 'token'];

const QEMU_USER = { runAsUser: 107, runAsGroup: 107 };

export interface RestrictedOptions {
  mode?: 'KubeVirt' | 'OpenShift';
  seLinuxLevel?: string;
  /** Whether it uses the API server; otherwise it has no token. */
  token: boolean;
  /** Whether it writes to its claims, as a restore does. */
  writes?: boolean;
}

/**
 * Asserts everything that Pod Security `restricted` requires, and more: no token without need, no writable root,
 * volumes read-only.
 */
export function assertRestricted(spec: PodSpec, { mode = 'KubeVirt', seLinuxLevel, token, writes = false }: RestrictedOptions): void {
  assert.deepEqual(spec.securityContext, {
    runAsNonRoot: true,
    ...(mode === 'KubeVirt' ? QEMU_USER : {}),
    ...(seLinuxLevel === undefined ? {} : { seLinuxOptions: { level: seLinuxLevel } }),
    seccompProfile: { type: 'RuntimeDefault' },
  });
  assert.equal(spec.automountServiceAccountToken, token);
  assert.equal('serviceAccountName' in spec, token);
  assert.equal(spec.enableServiceLinks, false);
  for (const key of ['hostNetwork', 'hostPID', 'hostIPC']) assert.ok(!(key in spec), key);
  for (const container of [...(spec.initContainers ?? []), ...spec.containers]) {
    assert.deepEqual(container.securityContext, {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    });
    for (const mount of container.volumeMounts ?? []) assert.equal(mount.readOnly, true, `${mount.mountPath} is read-only`);
  }
  for (const volume of spec.volumes) {
    if (SECRET_VOLUMES.includes(volume.name)) {
      assert.deepEqual(Object.keys(volume).sort(), ['name', 'secret']);
      continue;
    }
    assert.deepEqual(Object.keys(volume).sort(), ['name', 'persistentVolumeClaim']);
    assert.equal(volume.persistentVolumeClaim.readOnly ?? false, !writes, `${volume.name} is ${writes ? 'writable' : 'read-only'}`);
  }
}
