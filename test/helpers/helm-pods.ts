/** What the tests read of pods and Deployments, and what every pod of ours must be. */

import assert from 'node:assert/strict';

interface Container {
  image: string;
  command: string[];
  securityContext: { capabilities: { drop: string[]; add?: string[] } } & Record<string, unknown>;
  volumeMounts?: { name: string; mountPath: string; readOnly?: boolean }[];
  volumeDevices?: { name: string; devicePath: string }[];
  resources?: unknown;
}

export interface PodSpec extends Record<string, unknown> {
  securityContext: Record<string, unknown>;
  containers: Container[];
  initContainers?: unknown;
  volumes: { name: string; persistentVolumeClaim: { claimName: string; readOnly?: boolean } }[];
}

export interface Pod {
  kind: string;
  metadata: { name: string };
  spec: PodSpec;
}

export interface Deployment {
  kind: string;
  metadata: { name: string; namespace?: string };
  spec: {
    replicas: number;
    strategy: unknown;
    selector: { matchLabels: Record<string, string> };
    template: { metadata: { labels: Record<string, string> }; spec: PodSpec };
  };
}

const QEMU_USER = { runAsUser: 107, runAsGroup: 107 };

/** Asserts everything that Pod Security `restricted` asks for, and more: no token, no writable root, volumes read-only. */
export function assertRestricted(spec: PodSpec, mode: 'KubeVirt' | 'OpenShift' = 'KubeVirt'): void {
  assert.deepEqual(spec.securityContext, {
    runAsNonRoot: true,
    ...(mode === 'KubeVirt' ? QEMU_USER : {}),
    seccompProfile: { type: 'RuntimeDefault' },
  });
  assert.equal(spec.automountServiceAccountToken, false);
  assert.equal(spec.enableServiceLinks, false);
  for (const key of ['hostNetwork', 'hostPID', 'hostIPC', 'initContainers', 'serviceAccountName']) assert.ok(!(key in spec), key);
  assert.equal(spec.containers.length, 1);
  for (const container of spec.containers) {
    assert.deepEqual(container.securityContext, {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    });
    for (const mount of container.volumeMounts ?? []) assert.equal(mount.readOnly, true, `${mount.mountPath} is read-only`);
  }
  for (const volume of spec.volumes) {
    assert.deepEqual(Object.keys(volume).sort(), ['name', 'persistentVolumeClaim']);
    assert.equal(volume.persistentVolumeClaim.readOnly, true, `${volume.name} is read-only`);
  }
}
