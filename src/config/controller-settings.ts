/** The settings of `disklift controller`, each declared once, as settings.ts has those of the sidecar. */

import type { ConfigOf } from './load-config.ts';
import { SETTINGS, type Setting } from './settings.ts';

export const CONTROLLER_SETTINGS = {
  kubeconfig: SETTINGS.kubeconfig,
  namespaces: {
    text: 'Namespace whose DiskExports the controller runs. Repeatable.',
    default: [] as string[],
    value: 'NAME',
    format: 'list',
    absent: 'all namespaces',
  },
  leaderElectionNamespace: {
    text: 'Namespace of the Lease by which one of several controllers is chosen.',
    default: '',
    value: 'NAME',
    format: 'text',
    absent: 'the namespace of the pod or of the kubeconfig',
  },
  leaderElectionLease: { text: 'Name of that Lease.', default: 'disklift-controller', value: 'NAME', format: 'text' },
  leaseDurationSeconds: {
    text: 'Seconds after which another controller takes over from one that no longer renews its Lease; at least 3.',
    default: 15,
    value: 'SECONDS',
    format: 'count',
  },
  podName: { ...SETTINGS.podName, text: "Name of the controller's pod, which the Lease and events show.", absent: 'the host name' },
  workerImage: {
    text: 'Image of the pods that export. It must have the same version as the controller. Required.',
    default: '',
    value: 'IMAGE',
    format: 'text',
    absent: 'none',
  },
  workerImagePullPolicy: {
    text: 'When the kubelet pulls workerImage.',
    default: 'IfNotPresent',
    value: 'POLICY',
    format: ['IfNotPresent', 'Always', 'Never'],
  },
  workerServiceAccount: {
    text: 'ServiceAccount of the pods that export. The controller creates it in each namespace with exports, and removes it.',
    default: 'disklift-worker',
    value: 'NAME',
    format: 'text',
  },
  workerClusterRole: {
    text: 'ClusterRole that a RoleBinding gives to workerServiceAccount in its namespace.',
    default: 'disklift-worker',
    value: 'NAME',
    format: 'text',
  },
  jobTemplateFile: {
    text: 'YAML file with parts of the Jobs: labels, annotations, nodeSelector, tolerations, priorityClassName, resources, env, imagePullSecrets, securityContext.',
    default: '',
    value: 'FILE',
    format: 'text',
    absent: 'none of these parts',
  },
  maxConcurrentJobs: { text: 'Exports that run at the same time. Other exports wait.', default: 20, value: 'N', format: 'count' },
  maxConcurrentJobsPerNamespace: {
    text: 'Exports of one namespace that run at the same time.',
    default: 5,
    value: 'N',
    format: 'count',
  },
  maxConcurrentJobsPerNode: {
    text: 'Exports that run at the same time on one node, as far as the node is known before the pod starts.',
    default: 4,
    value: 'N',
    format: 'count',
  },
  maxConcurrentJobsPerHost: {
    text: 'Exports to one destination host that run at the same time. 0: no limit.',
    default: 0,
    value: 'N',
    format: 'natural',
  },
  podStartTimeoutSeconds: {
    text: 'Seconds for which the pod of an export may be unable to start before the export fails.',
    default: 600,
    value: 'SECONDS',
    format: 'count',
  },
  listenHost: SETTINGS.listenHost,
  listenPort: SETTINGS.listenPort,
  listenCertificateFile: {
    ...SETTINGS.listenCertificateFile,
    text: 'Certificate chain (PEM) to serve all pages by HTTPS. The controller reads it again after a change. Requires listenKeyFile.',
  },
  listenKeyFile: SETTINGS.listenKeyFile,
  listenTokenFile: {
    ...SETTINGS.listenTokenFile,
    text: 'File with a bearer token that requests for metrics or exports must carry. The controller reads it for each request.',
  },
  listenTokenReview: {
    ...SETTINGS.listenTokenReview,
    text: 'In place of listenTokenFile: a request must carry a token of a user of the cluster (TokenReview). Metrics require the right to get /metrics, exports the rights to list DiskExports and DiskExportSchedules in all namespaces of the controller (SubjectAccessReview).',
  },
  logLevel: SETTINGS.logLevel,
  logFormat: SETTINGS.logFormat,
} as const satisfies Record<string, Setting>;

export type ControllerConfig = ConfigOf<typeof CONTROLLER_SETTINGS>;
