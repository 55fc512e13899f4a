/** The DiskExport resource with all defaults filled in. Generated from manifests/crd.yaml by `make generate`: change it there. */

/** A request to export the disks on a volume as qcow2 images, and what became of it. */
export interface DiskExport {
  apiVersion: 'disklift.dev/v1alpha1';
  kind: 'DiskExport';
  metadata: ObjectMetadata;
  spec: DiskExportSpec;
  status?: DiskExportStatus;
}
export interface ObjectMetadata {
  name: string;
  namespace: string;
  uid: string;
  /** The API server writes it; for a request of a file, the time at which it was accepted. */
  creationTimestamp?: string;
  /** Grows with each change of the spec. */
  generation?: number;
  labels?: {
    [k: string]: string;
  };
  annotations?: {
    [k: string]: string;
  };
  [k: string]: unknown;
}
/** What is exported, how and to where. Nothing but cancel and ttlSecondsAfterFinished can be changed later. */
export interface DiskExportSpec {
  source: ExportSource;
  image: ImageSpec;
  destination: DestinationSpec;
  /** Digest of the whole image that is computed as it is sent and recorded in the status. */
  checksum: 'SHA256' | 'None';
  /** How many attempts may fail, beside the first, before a disk has failed. The waits between the attempts grow from 2 seconds to 10 minutes; 8 of them take from 22 to 32 minutes, enough for the reboot of a receiver, and each further one 10 minutes. Attempts that were lost to the executor or to a disk in use do not count. */
  backoffLimit: number;
  /** Seconds from the first claim after which the export fails; no limit when left out. */
  activeDeadlineSeconds?: number;
  /** Seconds from its end after which the DiskExport is deleted; never when left out. */
  ttlSecondsAfterFinished?: number;
  /** Whether the export is to be ended. Cannot be taken back. */
  cancel: boolean;
}
/** The volume and which disks on it. */
export interface ExportSource {
  /** The volume. */
  persistentVolumeClaim: {
    /** Name of a PersistentVolumeClaim in the namespace of the DiskExport. */
    claimName: string;
  };
  /** The disks to export; every disk found on the volume when left out. */
  disks?: DiskSelection[];
  /** What to do while another process writes to a disk. Wait until none does, which costs no attempt; Fail at once; or Allow it, where a change of the disk during the export is still an error. */
  inUse: 'Wait' | 'Fail' | 'Allow';
  /** Whether a hash of every MiB of data is kept from the scan and compared when it is read again. Auto does so for block devices, for file systems whose times do not show every write (most of FUSE, SMB), and where inUse is Allow. */
  verify: 'Auto' | 'Always' | 'Never';
}
/** One disk on the volume. */
export interface DiskSelection {
  /** Path of the disk's file relative to the root of the volume, such as disk.img. No link is followed. For a volume in Block mode the path is `.`, the device itself. A `*` stands for any characters of one name; every file that matches is a disk, 64 at most. */
  path: string;
  /** Format of the file; Auto looks at what it begins with. */
  format: 'Auto' | 'Raw' | 'QCOW2' | 'VMDK' | 'VHDX' | 'VDI' | 'VPC';
}
/** How the qcow2 images are made. */
export interface ImageSpec {
  /** Converted: the disk as a qcow2 image; also the behaviour when left out. Verbatim: the file's own bytes in any format; incremental backups need this. Files in KubeVirt's backup layout are refused unless the request names the layout. */
  layout?: 'Converted' | 'Verbatim';
  /** Bytes of a cluster, a power of two from 512 to 2Mi, as a quantity of Kubernetes: 65536 or 64Ki. There 64K is 64000, which is no power of two. */
  clusterSize: number | string;
  /** Version of the qcow2 format; 2 is for readers older than QEMU 1.1. */
  version: 2 | 3;
  /** Bits of a reference count. */
  refcountBits: 1 | 2 | 4 | 8 | 16 | 32 | 64;
  /** Content reads the data and leaves clusters of zeros out of the image. Extents leaves out holes only, which reads the disk once instead of twice. */
  zeroDetection: 'Content' | 'Extents';
}
/** Where the images go; exactly one kind of destination. */
export interface DestinationSpec {
  http?: HttpDestination;
  s3?: S3Destination;
  tcp?: TcpDestination;
}
/** An HTTP or HTTPS server that takes each image as the body of one request. */
export interface HttpDestination {
  /** Where an image is sent to. {namespace}, {name}, {uid}, {claim}, {date} and {timestamp} (the creation of the DiskExport in UTC, such as 2026-11-30 and 20261130T014201Z) and {disk} (the disk's file name without its extension) are replaced in the path. Whoever may read the DiskExport can read it: a URL with a password or a signature belongs in a Secret. */
  url?: string;
  urlSecretRef?: SecretKeyReference;
  /** The request's method; POST is what the upload proxy of KubeVirt's CDI takes. */
  method: 'PUT' | 'POST';
  headersSecretRef?: SecretReference;
  /** Whether the server is asked to refuse the upload when the URL already has a file (If-None-Match). Many servers ignore this and replace the file: Go's webdav (rclone), dufs, copyparty and webdav-server. A unique name ({uid}) protects at every server. */
  ifNoneMatch: boolean;
  /** Whether disklift first makes missing folders of the URL's path (MKCOL), as WebDAV clients do. Apache, lighttpd, wsgidav and rclone need it; servers that make folders by themselves do not. */
  createCollections: boolean;
  /** Limit in seconds for the receiver's answer after the whole image was sent, because the receiver may convert the image first. When left out: one hour, and 100 seconds more for each GB of the disk. */
  answerTimeoutSeconds?: number;
  tls?: TlsSpec;
}
/** One entry of a Secret in the namespace of the DiskExport that carries the label disklift.dev/credentials=true. */
export interface SecretKeyReference {
  /** Name of the object. */
  name: string;
  /** Name of the entry. */
  key: string;
}
/** A Secret in the namespace of the DiskExport that carries the label disklift.dev/credentials=true. */
export interface SecretReference {
  /** Name of the object. */
  name: string;
}
/** TLS of the connections to the destination. */
export interface TlsSpec {
  caBundleRef?: CaBundleReference;
  clientCertificateSecretRef?: SecretReference;
  /** Name that the server's certificate must have, in place of the host's. */
  serverName?: string;
}
/** Certificates (PEM) that are trusted instead of the well-known authorities. */
export interface CaBundleReference {
  /** Name of the object. */
  configMap?: string;
  /** Name of the object. */
  secret?: string;
  /** Name of the entry. */
  key: string;
}
/** An object store that speaks the S3 protocol; each image becomes one object. */
export interface S3Destination {
  /** URL of the object store; that of Amazon's region when left out. */
  endpoint?: string;
  /** Region that requests are signed for. */
  region: string;
  /** Name of the bucket; it must exist. */
  bucket: string;
  /** Key of the object. {namespace}, {name}, {uid}, {claim}, {date} and {timestamp} (the creation of the DiskExport in UTC, such as 2026-11-30 and 20261130T014201Z) and {disk} (the disk's file name without its extension) are replaced. */
  key: string;
  credentialsSecretRef?: SecretReference;
  /** Whether the bucket's name goes into the path of the URL instead of the host's name. */
  forcePathStyle: boolean;
  /** Bytes of a part, from 5Mi to 5Gi, as a quantity of Kubernetes: Ki, Mi and Gi are powers of 1024; K, M and G are powers of 1000. When left out, 16Mi or as much as it takes for an image to fit into maxParts parts. */
  partSize?: number | string;
  /** Maximum number of parts of one object that the server takes. Amazon S3 and most servers take 10000; Scaleway and some installations of Ceph take 1000. */
  maxParts: number;
  /** Parts that are sent at a time, at most; fewer when they are large. */
  concurrency: number;
  /** Checksum that is sent with each part for the object store to verify. */
  checksum: 'None' | 'CRC32' | 'CRC32C' | 'CRC64NVME';
  /** Whether an object that is at the key already is kept (If-None-Match). The export then fails before it sends anything, unless the object has the image's own bytes. Where the server ignores the condition, disklift looks once more before it makes the object. */
  ifNotExists: boolean;
  /** Whether the image's SHA-256 is written to a second object, whose key ends in .sha256. */
  sha256Object: boolean;
  tls?: TlsSpec;
}
/** A peer that takes each image on a connection of its own. */
export interface TcpDestination {
  /** Name or IP address of the peer. */
  host: string;
  /** Port of the peer. */
  port: number;
  /** Acknowledged has the peer confirm length and SHA-256 (disklift receive does) and can go on after an interruption. Raw sends the bytes of the image and nothing else. */
  protocol: 'Raw' | 'Acknowledged';
  /** Limit in seconds for the receiver's answer after the whole image was sent, because the receiver may convert the image first. When left out: one hour, and 100 seconds more for each GB of the disk. */
  answerTimeoutSeconds?: number;
  tls?: TlsSpec;
}
/** What became of the export. Conditions are what programs should look at. */
export interface DiskExportStatus {
  /** Generation of the DiskExport that this status is about. */
  observedGeneration?: number;
  /** A summary for people. */
  phase?: 'Pending' | 'Scanning' | 'Streaming' | 'Verifying' | 'Succeeded' | 'Failed' | 'Cancelled';
  /** What is going on, or why the export has ended as it has. */
  message?: string;
  /** Kind of the destination. */
  destination?: 'HTTP' | 'S3' | 'TCP';
  /** Succeeded: Unknown while the export is active. Finished: True once it has ended, either way. Progressing. SourceReady. DisksLeftOut: True where files of the volume may be disks and are not exported; the message names them. ZerosMayBeLost: True where a converted qcow2 file may be an incremental backup; the message gives advice. */
  conditions?: Condition[];
  /** When the export was first claimed. */
  startTime?: string;
  /** When the next attempt begins. Only there while the export waits for that, after an attempt that failed. */
  nextAttemptTime?: string;
  /** When the export ended. */
  completionTime?: string;
  /** From startTime to completionTime in units for people, such as 12m30s, once the export has ended. */
  duration?: string;
  /** Attempts begun, of all disks. */
  attempts?: number;
  executor?: ExecutorStatus;
  unfinishedRuns?: UnfinishedRunsStatus;
  progress?: ProgressStatus;
  /** Each disk by itself. */
  disks?: DiskStatus[];
}
/** One aspect of the export's state. */
export interface Condition {
  /** Name of the aspect. */
  type: string;
  /** Whether it is so. */
  status: 'True' | 'False' | 'Unknown';
  /** Why, in one word for programs. */
  reason: string;
  /** Why, for people. */
  message: string;
  /** When the status of the condition was last another. Absent in the condition that the API server gives a new object. */
  lastTransitionTime?: string;
  /** Generation of the DiskExport that this condition is about. */
  observedGeneration?: number;
}
/** The process that runs the export, or ran it last. */
export interface ExecutorStatus {
  /** Name of its pod. */
  podName?: string;
  /** UID of its pod. */
  podUID?: string;
  /** Name of its node. */
  nodeName?: string;
}
/** Runs in a row that began to work on the disks and have not ended in order, with the present one. Absent where there is none. After the third lost run the next one waits first, and each run that is lost then uses up one of backoffLimit. */
export interface UnfinishedRunsStatus {
  /** How many they are. */
  count: number;
  /** Bytes of the images that the furthest of them has sent. A run that sends more begins the count anew. */
  sentBytes: number;
}
/** How far the export is, over all disks. */
export interface ProgressStatus {
  /** Share of the images' bytes that have been sent, in percent, rounded down. */
  percent: number;
  /** Bytes of the disks as a guest sees them. */
  virtualBytes: number;
  /** Bytes of the images. */
  imageBytes: number;
  /** Bytes of the images that have been sent. */
  sentBytes: number;
  /** Bytes of the disks that need not be sent because they are zeros. */
  skippedBytes: number;
  /** sentBytes in units for people, such as 1.3Gi. */
  written: string;
}
/** One disk of the export. */
export interface DiskStatus {
  /** Path of the disk relative to the volume. */
  path: string;
  /** Format that the disk has. */
  format?: string;
  /** How far this disk is. */
  phase?: 'Pending' | 'Scanning' | 'Streaming' | 'Verifying' | 'Succeeded' | 'Failed' | 'Cancelled';
  /** Why the last attempt failed, in one word for programs. */
  reason?: string;
  /** Why the last attempt failed, for people. */
  message?: string;
  /** Bytes of the disk as a guest sees it. */
  virtualBytes?: number;
  /** Bytes of the image. */
  imageBytes?: number;
  /** Bytes of the image that have been sent. */
  sentBytes?: number;
  /** Attempts begun. */
  attempts?: number;
  clusters?: ClusterCounts;
  /** Where the image is, once it has arrived. Holds no secret: of a URL from a Secret only the host, with the name of the Secret. */
  location?: string;
  /** Entity tag that the destination gave it. */
  etag?: string;
  /** SHA-256 of the image, in hexadecimal digits. */
  sha256?: string;
  /** The comparison that shows that the image arrived. Digest: a digest that the destination reported. ETag: the MD5s in the object's tags. Checksum: the checksum that the destination reported for each part. ReadBack: the image, or its parts without another proof, were read back. Length: only the length. Status: no comparison; the destination answered with success. Close: no comparison; the destination took every byte and closed in order. */
  proof?: 'Digest' | 'ETag' | 'Checksum' | 'ReadBack' | 'Length' | 'Status' | 'Close';
  upload?: UploadStatus;
}
/** What became of the disk's clusters; once all are scanned, scanned is skipped and written together. */
export interface ClusterCounts {
  /** Clusters of the disk. */
  total: number;
  /** Clusters of which it is known what they hold. */
  scanned: number;
  /** Clusters that are not in the image because they are zeros. */
  skipped: number;
  /** Clusters whose data has been sent. */
  written: number;
}
/** What the destination holds open for this disk, to go on with or to be dropped. */
export interface UploadStatus {
  /** The destination's name for it. */
  id: string;
  /** Bytes of a part. */
  partSize: number;
  /** Of the image that it belongs to. */
  fingerprint: string;
}
