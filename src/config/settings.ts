/**
 * The settings of `disklift sidecar`, each declared once. From its key follow its flag and its environment variable:
 * `maxConcurrentExports`, `--max-concurrent-exports`, `DISKLIFT_MAX_CONCURRENT_EXPORTS`. docs/configuration.md is made
 * from this.
 */

export interface Setting<T = unknown> {
  /** One sentence for people. */
  text: string;
  default: T;
  /** A name for the value: for the flag's help and the table. */
  value: string;
  /** A format of convict, or the values that are allowed. */
  format: 'count' | 'natural' | 'seconds' | 'port' | 'list' | 'switch' | 'text' | readonly string[];
  /** The meaning of an empty default. */
  absent?: string;
  /** Whether the help of the command leaves it out, because only the controller sets it. */
  isInternal?: boolean;
}

export const SETTINGS = {
  requests: {
    text: 'Directory with DiskExport manifests, to run without a cluster. The sidecar writes the status of each manifest beside it, to NAME.status.yaml.',
    default: '',
    value: 'DIR',
    format: 'text',
    absent: 'the DiskExports of the API server',
  },
  namespace: {
    text: 'Namespace whose DiskExports the sidecar runs.',
    default: '',
    value: 'NAME',
    format: 'text',
    absent: 'the namespace of the pod or of the kubeconfig',
  },
  kubeconfig: {
    text: 'kubeconfig file, which is read as kubectl reads it.',
    default: '',
    value: 'FILE',
    format: 'text',
    absent: "the pod's ServiceAccount; without one, the kubeconfig that kubectl uses",
  },
  once: {
    text: 'Run only the DiskExport of this name, and exit with its result. 0: it succeeded. 3: it ended without success. 2: this process cannot serve it. Every other code, such as 143 after SIGTERM, means that the export has not ended.',
    default: '',
    value: 'NAME',
    format: 'text',
    absent: 'all, until the process is stopped',
  },
  volume: {
    text: 'A claim, and the path where it is mounted or its block device. For several claims, repeat the flag or separate them by commas.',
    default: [] as string[],
    value: 'NAME=PATH',
    format: 'list',
    absent: 'none',
  },
  worker: {
    text: 'Set by the controller: what the process that it starts for one export has. Live: the claims themselves. PointInTime: clones of snapshots, which no other pod can write to. Cleanup: no volume; the process aborts the uploads that the status names, and ends with 0 if none is left open.',
    default: '',
    value: 'ROLE',
    format: ['', 'Live', 'PointInTime', 'Cleanup'],
    absent: 'a sidecar',
    isInternal: true,
  },
  claimOf: {
    text: "Set by the controller: the claim of a virtual machine's volume, by the volume's name. Pods that write to the claim are searched for. Repeatable.",
    default: [] as string[],
    value: 'VOLUME=CLAIM',
    format: 'list',
    absent: 'none',
    isInternal: true,
  },
  manifestFile: {
    text: 'Set by the controller: the file that goes beside the images of a virtual machine as vm.yaml.',
    default: '',
    value: 'FILE',
    format: 'text',
    absent: 'none',
    isInternal: true,
  },
  snapshotMetadata: {
    text: 'Set by the controller: JSON with the snapshot of which the volume is a clone, and the SnapshotMetadata service of its CSI driver.',
    default: '',
    value: 'JSON',
    format: 'text',
    absent: 'none',
    isInternal: true,
  },
  backupUid: {
    text: 'Set by the controller: UID of the VirtualMachineBackup whose volumes are exported.',
    default: '',
    value: 'UID',
    format: 'text',
    absent: 'none',
    isInternal: true,
  },
  podName: {
    text: "Name of the sidecar's pod, which the status of an export shows as its executor.",
    default: '',
    value: 'NAME',
    format: 'text',
    absent: 'not set',
  },
  podUid: { text: "UID of the sidecar's pod.", default: '', value: 'UID', format: 'text', absent: 'not set' },
  nodeName: { text: "Name of the sidecar's node.", default: '', value: 'NAME', format: 'text', absent: 'not set' },
  containerName: {
    text: "Name of the sidecar's own container, which is ignored when pods are checked for writers.",
    default: '',
    value: 'NAME',
    format: 'text',
    absent: 'not set',
  },
  leaseDurationSeconds: {
    text: 'Seconds after which another process may take over the exports of a process that no longer renews its Leases; at least 3.',
    default: 30,
    value: 'SECONDS',
    format: 'count',
  },
  maxConcurrentExports: {
    text: 'Number of slots: exports that run at the same time. Other exports wait.',
    default: 2,
    value: 'N',
    format: 'count',
  },
  maxConcurrentExportsPerHost: {
    text: 'Number of slots that exports to one host may have. 0: all slots, and all but one while exports to that host fail.',
    default: 0,
    value: 'N',
    format: 'natural',
  },
  minRateBytesPerSecond: {
    text: 'Bytes per second that a destination must accept over two minutes. An attempt below this rate fails. 0: no limit.',
    default: 1024,
    value: 'BYTES',
    format: 'natural',
  },
  allowDestination: {
    text: 'Host name (*.example for all names beneath it), address or CIDR that is exempt from the default denials. Repeatable.',
    default: [] as string[],
    value: 'HOST',
    format: 'list',
    absent: 'none',
  },
  denyDestination: {
    text: 'Host name, address or CIDR that no export may reach. It overrides allowDestination. Repeatable.',
    default: [] as string[],
    value: 'HOST',
    format: 'list',
    absent: 'none beside loopback, link-local and metadata addresses',
  },
  destinationScope: {
    text: "Whether exports may send into the sidecar's own cluster. External refuses Services, their names and clusterNetworks. Cluster allows them. Both refuse the API server, the node and the pod itself, unless allowDestination names them.",
    default: 'External',
    value: 'SCOPE',
    format: ['External', 'Cluster'],
  },
  clusterNetworks: {
    text: 'CIDRs of Services, pods and nodes, which destinationScope External refuses. Repeatable.',
    default: [] as string[],
    value: 'CIDR',
    format: 'list',
    absent: 'the /16 around the address of the Service kubernetes (10.96.0.0/12 if the address lies in it), and no pod networks',
  },
  nodeAddresses: {
    text: 'Addresses of the node. No export may send there, unless allowDestination names them.',
    default: [] as string[],
    value: 'ADDRESS',
    format: 'list',
    absent: 'not set',
  },
  allowAmbientCredentials: {
    text: "Whether S3 exports without a Secret may use the credentials in the sidecar's environment.",
    default: false,
    value: '',
    format: 'switch',
  },
  listenHost: {
    text: 'Address for the status page, its API, /metrics, /livez and /readyz.',
    default: '0.0.0.0',
    value: 'ADDRESS',
    format: 'text',
  },
  listenPort: {
    text: 'Port for the status page, its API, /metrics, /livez and /readyz. 0 chooses a free port.',
    default: 9474,
    value: 'PORT',
    format: 'port',
  },
  listenCertificateFile: {
    text: 'Certificate chain (PEM) to serve all pages by HTTPS. The sidecar reads it again after a change. Requires listenKeyFile.',
    default: '',
    value: 'FILE',
    format: 'text',
    absent: 'plain HTTP',
  },
  listenKeyFile: {
    text: 'Private key (PEM) of listenCertificateFile.',
    default: '',
    value: 'FILE',
    format: 'text',
    absent: 'none',
  },
  listenTokenFile: {
    text: 'File with a bearer token that requests for metrics or exports must carry. The sidecar reads it for each request.',
    default: '',
    value: 'FILE',
    format: 'text',
    absent: 'no token is required',
  },
  listenTokenReview: {
    text: 'In place of listenTokenFile: a request must carry a token of a user of the cluster (TokenReview). Metrics require the right to get /metrics, exports the right to list DiskExports (SubjectAccessReview).',
    default: false,
    value: '',
    format: 'switch',
  },
  seriesRetentionSeconds: {
    text: 'Seconds for which the metrics of an export stay after its end.',
    default: 900,
    value: 'SECONDS',
    format: 'seconds',
  },
  logLevel: {
    text: 'Lowest level that is logged to standard error.',
    default: 'info',
    value: 'LEVEL',
    format: ['debug', 'info', 'warn', 'error', 'silent'],
  },
  logFormat: {
    text: 'Form of the log. auto: text on a terminal, JSON elsewhere.',
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
