/** The Helm chart, rendered by the real helm from values. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { parseAllDocuments } from 'yaml';
import type { Manifest } from './helm-pods.ts';

const ROOT = path.join(import.meta.dirname, '..', '..');
export const CHART = path.join(ROOT, 'charts', 'disklift');
export const MANIFESTS = path.join(ROOT, 'manifests');

export const IMAGE = { repository: 'registry.example/disklift' };
export const FEDORA = { name: 'fedora', claimName: 'fedora-root' };
export const WINDOWS = { name: 'windows', claimName: 'windows-root', mode: 'Block' };

/** The smallest values that the chart accepts. */
export const MINIMAL = { image: IMAGE, volumes: [FEDORA] };

/** The smallest values with which the chart makes the controller, and no sidecar. */
export const CONTROLLER = { image: IMAGE, controller: { enabled: true } };

const SCHEDULE = {
  cron: '30 1 * * *',
  keep: 3,
  suspend: true,
  spec: { destination: { http: { url: 'https://backup.example/{date}/{disk}' } } },
};

/** Values with which the chart makes every object that it can make. */
export const EVERYTHING = {
  image: { ...IMAGE, tag: '1.10', pullPolicy: 'Always' },
  imagePullSecrets: [{ name: 'registry' }],
  volumes: [
    FEDORA,
    WINDOWS,
    { name: 'data', claimName: 'data', once: 'data-nightly' },
    { name: 'nights', claimName: 'data', schedule: SCHEDULE },
  ],
  controller: {
    enabled: true,
    namespaces: ['vms'],
    replicas: 3,
    limits: { total: 40, perHost: 2 },
    jobTemplate: {
      labels: { 'kueue.x-k8s.io/queue-name': 'backups' },
      annotations: { note: 'y' },
      env: [{ name: 'NO_PROXY', value: 'backup.example' }],
      nodeSelector: { zone: '2' },
      tolerations: [{ key: 'backup', operator: 'Exists' }],
      resources: { requests: { cpu: '1' } },
      priorityClassName: 'low',
    },
    config: { podStartTimeoutSeconds: 1200, logLevel: 'debug' },
    priorityClassName: 'system-cluster-critical',
  },
  config: { maxConcurrentExports: 4, allowDestination: ['10.0.0.0/8', '*.example'], allowAmbientCredentials: true, logLevel: 'debug' },
  http: { certificateSecretName: 'disklift-tls', tokenSecretName: 'disklift-token' },
  env: [{ name: 'HTTPS_PROXY', value: 'http://proxy.example:3128' }],
  serviceAccount: { annotations: { 'cloud.example/role': 'backup' } },
  rbac: { secretNames: ['backup-keys'], configMapNames: ['backup-ca'] },
  networkPolicy: {
    enabled: true,
    metricsFrom: [{ namespaceSelector: {} }],
    egress: [{ to: [{ ipBlock: { cidr: '10.0.0.0/8' } }] }],
    controllerEgress: [{ to: [{ ipBlock: { cidr: '10.0.0.1/32' } }] }],
  },
  podMonitor: { enabled: true, labels: { release: 'prometheus' }, tlsConfig: { serverName: 'disklift.example' } },
  prometheusRule: { enabled: true },
  dashboard: { enabled: true },
  podLabels: { team: 'backup' },
  podAnnotations: { note: 'x' },
  nodeSelector: { zone: '1' },
  tolerations: [{ operator: 'Exists' }],
  affinity: { nodeAffinity: {} },
};

export function parseManifests(text: string): Manifest[] {
  const documents = parseAllDocuments(text);
  for (const { errors } of documents) assert.deepEqual(errors, []);
  return documents.map((document) => document.toJS() as Manifest).filter((manifest) => manifest !== null);
}

export function readManifests(name: string): Manifest[] {
  return parseManifests(readFileSync(path.join(MANIFESTS, name), 'utf8'));
}

/** The manifests of one kind. */
export function ofKind<T extends Manifest>(manifests: readonly Manifest[], kind: string): T[] {
  return manifests.filter((manifest) => manifest.kind === kind) as T[];
}
