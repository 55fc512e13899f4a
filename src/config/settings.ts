/**
 * The settings of `disklift sidecar`, each declared once. From its key follow its flag and its environment variable:
 * `maxConcurrentExports`, `--max-concurrent-exports`, `DISKLIFT_MAX_CONCURRENT_EXPORTS`. docs/configuration.md is made from this.
 */

export interface Setting<T = unknown> {
  /** One sentence for people. */
  text: string;
  default: T;
  /** What the value is: for the flag's help and the table. */
  value: string;
  /** A format of convict, or the values that are allowed. */
  format: 'count' | 'natural' | 'seconds' | 'port' | 'list' | 'switch' | 'text' | readonly string[];
  /** Of an empty default: what it means. */
  absent?: string;
}

export const SETTINGS = {
  requests: {
    text: 'Directory of DiskExport manifests to run in place of those in a cluster; the status of each is written beside it as NAME.status.yaml.',
    default: '',
    value: 'DIR',
    format: 'text',
    absent: 'those that the API server has',
  },
  namespace: {
    text: 'Namespace whose DiskExports are run.',
    default: '',
    value: 'NAME',
    format: 'text',
    absent: 'that of the pod or of the kubeconfig',
  },
  kubeconfig: {
    text: 'File that tells where the API server is, as kubectl reads it.',
    default: '',
    value: 'FILE',
    format: 'text',
    absent: "the pod's ServiceAccount, or else as kubectl",
  },
  once: {
    text: 'Run the DiskExport of this name only, and exit with its result: 0 when it has succeeded, 3 when it has ended without success, 2 when this process cannot serve it. Every other code means that the export has not ended, such as 143 after SIGTERM.',
    default: '',
    value: 'NAME',
    format: 'text',
    absent: 'all, for as long as the process lives',
  },
  volume: {
    text: 'A claim and where it is mounted, or its block device. Repeat the flag, or separate by commas, for several.',
    default: [] as string[],
    value: 'NAME=PATH',
    format: 'list',
    absent: 'none',
  },
  podName: {
    text: "Name of this process's pod, which the status of an export tells as its executor.",
    default: '',
    value: 'NAME',
    format: 'text',
    absent: 'not told',
  },
  podUid: { text: 'UID of that pod.', default: '', value: 'UID', format: 'text', absent: 'not told' },
  nodeName: { text: 'Name of its node.', default: '', value: 'NAME', format: 'text', absent: 'not told' },
  containerName: {
    text: 'Name of its container, so that it is not taken for one that writes to a claim which it has mounted to write.',
    default: '',
    value: 'NAME',
    format: 'text',
    absent: 'not told',
  },
  leaseDurationSeconds: {
    text: 'How long a process that shows no life keeps others from its exports, in seconds; 3 and more.',
    default: 30,
    value: 'SECONDS',
    format: 'count',
  },
  maxConcurrentExports: {
    text: 'Exports that run at a time; others wait for their turn.',
    default: 2,
    value: 'N',
    format: 'count',
  },
  maxConcurrentExportsPerHost: {
    text: 'Those of them that may send to one host. 0: all of them, but all but one while exports to that host fail.',
    default: 0,
    value: 'N',
    format: 'natural',
  },
  minRateBytesPerSecond: {
    text: 'Bytes a second that a destination must take, over two minutes, or the attempt fails. 0: no such limit.',
    default: 1024,
    value: 'BYTES',
    format: 'natural',
  },
  allowDestination: {
    text: 'Host name (*.example for all beneath), address or CIDR that the default denials do not hold for. Repeatable.',
    default: [] as string[],
    value: 'HOST',
    format: 'list',
    absent: 'none',
  },
  denyDestination: {
    text: 'The same, never to be reached; stronger than what is allowed. Repeatable.',
    default: [] as string[],
    value: 'HOST',
    format: 'list',
    absent: 'loopback, link-local and metadata addresses are denied anyway',
  },
  destinationScope: {
    text: 'Whether exports may send to the cluster that the sidecar runs in. External: Services, their names and clusterNetworks are refused. Cluster: they are allowed. Both refuse the API server, the node and the pod itself, unless allowDestination has them.',
    default: 'External',
    value: 'SCOPE',
    format: ['External', 'Cluster'],
  },
  clusterNetworks: {
    text: 'CIDRs of the Services, pods and nodes, which the scope External refuses. Repeatable.',
    default: [] as string[],
    value: 'CIDR',
    format: 'list',
    absent: 'the /16 of the Service kubernetes (10.96.0.0/12 where it lies in there); no pods',
  },
  nodeAddresses: {
    text: 'Addresses of the node, which no export may send to, unless allowDestination has them.',
    default: [] as string[],
    value: 'ADDRESS',
    format: 'list',
    absent: 'not known',
  },
  allowAmbientCredentials: {
    text: "Whether S3 exports that name no Secret may use the credentials of the sidecar's own environment.",
    default: false,
    value: '',
    format: 'switch',
  },
  listenHost: {
    text: 'Address that the status page, the API, /metrics, /livez and /readyz are served at.',
    default: '0.0.0.0',
    value: 'ADDRESS',
    format: 'text',
  },
  listenPort: {
    text: 'Port that they are served at; 0 takes any that is free.',
    default: 9474,
    value: 'PORT',
    format: 'port',
  },
  listenCertificateFile: {
    text: 'Certificate chain, PEM, to serve them by HTTPS; read again when it has changed. Needs listenKeyFile.',
    default: '',
    value: 'FILE',
    format: 'text',
    absent: 'plain HTTP',
  },
  listenKeyFile: {
    text: 'Private key of that certificate, PEM.',
    default: '',
    value: 'FILE',
    format: 'text',
    absent: 'none',
  },
  listenTokenFile: {
    text: 'File with a bearer token that who asks for metrics or exports must have; read for each request.',
    default: '',
    value: 'FILE',
    format: 'text',
    absent: 'everybody may ask',
  },
  listenTokenReview: {
    text: 'In place of that: who asks for metrics or exports must have a token of the cluster, and be permitted to get /metrics, or to list the DiskExports (TokenReview, SubjectAccessReview).',
    default: false,
    value: '',
    format: 'switch',
  },
  seriesRetentionSeconds: {
    text: 'How long the metrics of an export stay when it has ended, in seconds.',
    default: 900,
    value: 'SECONDS',
    format: 'seconds',
  },
  logLevel: {
    text: 'What is logged to standard error.',
    default: 'info',
    value: 'LEVEL',
    format: ['debug', 'info', 'warn', 'error', 'silent'],
  },
  logFormat: {
    text: 'How: lines for people or JSON; by itself, lines for people on a terminal and JSON elsewhere.',
    default: 'auto',
    value: 'FORMAT',
    format: ['auto', 'text', 'json'],
  },
} as const satisfies Record<string, Setting>;

export type SettingKey = keyof typeof SETTINGS;

/** `maxConcurrentExports` is `--max-concurrent-exports`. */
export function flagOf(key: string): string {
  return `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

/** `maxConcurrentExports` is `DISKLIFT_MAX_CONCURRENT_EXPORTS`. */
export function environmentVariableOf(key: string): string {
  return `DISKLIFT_${key.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;
}
