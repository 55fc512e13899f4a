/** The DiskExport resource with all defaults filled in. Generated from manifests/crd.yaml by `make generate`: change it there. */

/** A request to export the disks on a volume as qcow2 images, and its status. */
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
/** The disks to export, the form of their images, and the destination. Only cancel and ttlSecondsAfterFinished can be changed later. */
export interface DiskExportSpec {
  source: ExportSource;
  snapshot?: SnapshotSpec;
  image: ImageSpec;
  destination: DestinationSpec;
  /** Whether disklift writes a receipt beside each image: a small JSON file with the image's size, SHA-256, options and base. Its place is the image's key or path with .json appended. When absent, disklift writes it where that is possible: to S3, and to HTTP with url and the method PUT; a refusal by the destination is then only a warning. */
  receipt?: boolean;
  incremental?: IncrementalSpec;
  /** Digest of the whole image, which disklift computes while it sends the image and records in the status. */
  checksum: 'SHA256' | 'None';
  /** Number of attempts after the first that may fail before a disk has failed. The waits between attempts grow from 2 seconds to 10 minutes. 8 waits take 22 to 32 minutes in all, enough for the reboot of a receiver; each further wait takes 10 minutes. An attempt does not count if the executor was lost or the disk was in use. */
  backoffLimit: number;
  /** Seconds after the first claim at which an unfinished export fails. When absent, there is no limit. */
  activeDeadlineSeconds?: number;
  /** Seconds after its end at which disklift deletes the DiskExport. When absent, it is never deleted. */
  ttlSecondsAfterFinished?: number;
  /** Ends the export. It cannot be set back to false. */
  cancel: boolean;
}
/** The disks that are exported. Exactly one of persistentVolumeClaim, volumeSnapshot, virtualMachine and virtualMachineBackup must be set. */
export interface ExportSource {
  /** The volume. */
  persistentVolumeClaim?: {
    /** Name of a PersistentVolumeClaim in the namespace of the DiskExport. */
    claimName: string;
  };
  /** A snapshot of a volume. disklift controller exports a clone of it. */
  volumeSnapshot?: {
    /** Name of a VolumeSnapshot in the namespace of the DiskExport. */
    name: string;
  };
  virtualMachine?: VirtualMachineSource;
  /** A backup of a running virtual machine that KubeVirt serves (pull mode). disklift controller exports its volumes without mounting a claim. */
  virtualMachineBackup?: {
    /** Name of a VirtualMachineBackup in the namespace of the DiskExport. */
    name: string;
  };
  /** The disks to export. When absent, disklift exports disk.img, or every disk at the root of the volume if there is no disk.img. */
  disks?: DiskSelection[];
  /** The rule for a disk that another process has open for writing. Wait: the export waits until the disk is free, which uses no attempt. Fail: the export fails. Allow: the export starts; a change of the disk during the export is still an error. */
  inUse: 'Wait' | 'Fail' | 'Allow';
  /** Whether disklift keeps a hash of every MiB of data from the scan and compares it when it reads the data again. Auto: for block devices, for file systems whose times do not show every write (most of FUSE, SMB), and with inUse Allow. */
  verify: 'Auto' | 'Always' | 'Never';
}
/** A virtual machine of KubeVirt. disklift controller exports its volumes. */
export interface VirtualMachineSource {
  /** Name of a VirtualMachine in the namespace of the DiskExport. */
  name: string;
  /**
   * Names of the virtual machine's volumes to export. When absent, every volume that is a claim or a DataVolume.
   *
   * Items: Name of a volume in the VirtualMachine.
   */
  volumes?: string[];
  /** Whether vm.yaml goes beside the images: the VirtualMachine with its DataVolumes and claims. Its place is the key or the URL with vm.yaml as the last part, where {claim} and {disk} stand for vm. When absent, disklift sends it where that is possible: to S3, and to HTTP with url and the method PUT. */
  manifest?: boolean;
}
/** One disk on the volume. */
export interface DiskSelection {
  /** Path of the disk's file relative to the root of the volume, such as disk.img. Symbolic links are not followed. For a volume in Block mode the path is `.`, the device itself. A `*` stands for any characters within one name. Every file that matches is exported; at most 64 files may match. */
  path: string;
  /** Format of the file. Auto decides by the file's name and its bytes together. */
  format: 'Auto' | 'Raw' | 'QCOW2' | 'VMDK' | 'VHDX' | 'VDI' | 'VPC';
}
/** Snapshots that disklift controller takes before it exports. When absent, a sidecar that serves the claim may run the export, and disklift controller treats the export as one with the mode Auto. */
export interface SnapshotSpec {
  /** Auto: disklift controller takes a snapshot if a container that can write has the claim, or if the virtual machine runs. Always: it takes a snapshot. Never: it exports the claims themselves. */
  mode: 'Auto' | 'Always' | 'Never';
  /** Name of the VolumeSnapshotClass. When absent, the default class of the claim's driver. A class with the deletionPolicy Retain leaves each snapshot on the storage, and is used only if it is named here. Only for a persistentVolumeClaim: for a virtual machine KubeVirt chooses the class. */
  className?: string;
  /** Seconds that the snapshot and its clone may take together. The guest of a virtual machine is frozen for at most 300 seconds. */
  timeoutSeconds: number;
  /** Name of the StorageClass of the clone. When absent, the class of the claim. */
  cloneStorageClassName?: string;
}
/** Form of the qcow2 images. */
export interface ImageSpec {
  /** Converted: the disk as a qcow2 image; this is also the behaviour when absent. Verbatim: the file's own bytes, in any format; incremental backups need this. Files in KubeVirt's backup layout are refused unless the request names a layout. */
  layout?: 'Converted' | 'Verbatim';
  /** Bytes of a cluster: a power of two from 512 to 2Mi, as a Kubernetes quantity such as 65536 or 64Ki. As a quantity, 64K is 64000, which is not a power of two. */
  clusterSize: number | string;
  /** Version of the qcow2 format. Version 2 is for readers older than QEMU 1.1. */
  version: 2 | 3;
  /** Bits of a reference count in the image. */
  refcountBits: 1 | 2 | 4 | 8 | 16 | 32 | 64;
  /** Content: disklift reads the data first, and leaves clusters of zeros out of the image. Extents: it leaves out only holes, and reads the disk once instead of twice. */
  zeroDetection: 'Content' | 'Extents';
}
/** Destination of the images. Exactly one kind must be set. */
export interface DestinationSpec {
  http?: HttpDestination;
  s3?: S3Destination;
  tcp?: TcpDestination;
}
/** An HTTP or HTTPS server that takes each image as the body of one request. */
export interface HttpDestination {
  /** URL of an image. disklift replaces these placeholders in its path: {namespace}, {name}, {uid}, {claim}; {vm}, the virtual machine's name; {date} and {timestamp}, the creation of the DiskExport in UTC (2026-11-30, 20261130T014201Z); {scheduledTime}, the time for which a schedule created it; {disk}, the disk's file name without its extension. For a virtual machine {claim} and {disk} are the name of its volume. Everybody who may read the DiskExport can read the URL: put a URL with a password or a signature into a Secret. */
  url?: string;
  urlSecretRef?: SecretKeyReference;
  /** Method of the request. The upload proxy of KubeVirt's CDI requires POST. */
  method: 'PUT' | 'POST';
  headersSecretRef?: SecretReference;
  /** Whether the request asks the server to refuse the upload if the URL already has a file (If-None-Match). Many servers ignore this and replace the file: Go's webdav (rclone), dufs, copyparty and webdav-server. A unique name ({uid}) protects the file at every server. */
  ifNoneMatch: boolean;
  /** Whether disklift first makes missing folders of the URL's path (MKCOL), as WebDAV clients do. Apache, lighttpd, wsgidav and rclone need it; servers that make folders by themselves do not. */
  createCollections: boolean;
  /** Seconds that the receiver may take to answer after the whole image was sent, because it may convert the image first. When absent: one hour, and 100 seconds more for each GB of the disk. */
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
/** TLS settings of the connections to the destination. */
export interface TlsSpec {
  caBundleRef?: CaBundleReference;
  clientCertificateSecretRef?: SecretReference;
  /** Name that the server's certificate must have, instead of the name of the host. */
  serverName?: string;
}
/** Certificates (PEM) that disklift trusts instead of the well-known authorities. */
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
  /** URL of the object store. When absent, the endpoint of Amazon's region. */
  endpoint?: string;
  /** Region for which requests are signed. */
  region: string;
  /** Name of the bucket, which must exist. */
  bucket: string;
  /** Key of the object. disklift replaces these placeholders: {namespace}, {name}, {uid}, {claim}; {vm}, the virtual machine's name; {date} and {timestamp}, the creation of the DiskExport in UTC (2026-11-30, 20261130T014201Z); {scheduledTime}, the time for which a schedule created it; {disk}, the disk's file name without its extension. For a virtual machine {claim} and {disk} are the name of its volume. */
  key: string;
  credentialsSecretRef?: SecretReference;
  /** Whether the name of the bucket is a part of the URL's path instead of its host name. */
  forcePathStyle: boolean;
  /** Bytes of a part, from 5Mi to 5Gi, as a Kubernetes quantity: Ki, Mi and Gi are powers of 1024; K, M and G are powers of 1000. When absent: 16Mi, or more if the image would not fit into maxParts parts. */
  partSize?: number | string;
  /** Maximum number of parts of one object at this server. Amazon S3 and most servers accept 10000; Scaleway and some installations of Ceph accept 1000. */
  maxParts: number;
  /** Maximum number of parts that are sent at the same time. Large parts reduce it. */
  concurrency: number;
  /** Checksum that disklift sends with each part, so that the object store can verify the part. */
  checksum: 'None' | 'CRC32' | 'CRC32C' | 'CRC64NVME';
  /** Whether disklift keeps an existing object with this key (If-None-Match). The export then fails before it sends anything, unless the object has the image's own bytes. In case the server ignores the condition, disklift checks the key once more before it creates the object. */
  ifNotExists: boolean;
  /** Whether disklift writes the image's SHA-256 to a second object, whose key ends in .sha256. */
  sha256Object: boolean;
  tls?: TlsSpec;
}
/** A peer that receives each image on a connection of its own. */
export interface TcpDestination {
  /** Name or IP address of the peer. */
  host: string;
  /** Port of the peer. */
  port: number;
  /** Acknowledged: the peer, such as disklift receive, confirms length and SHA-256, and an interrupted transfer resumes. Raw: disklift sends the bytes of the image and nothing else. */
  protocol: 'Raw' | 'Acknowledged';
  /** Seconds that the receiver may take to answer after the whole image was sent, because it may convert the image first. When absent: one hour, and 100 seconds more for each GB of the disk. */
  answerTimeoutSeconds?: number;
  tls?: TlsSpec;
}
/** Images of only what has changed since another image of the same disk at the same destination. The image names that base by a relative path as its backing file. */
export interface IncrementalSpec {
  /** Place of the base image: a key in the bucket, or a path of the HTTP server that begins with /. It may have the placeholders of the destination. */
  base?: string;
  /** Place of a small JSON file that names the newest image of the disk, as base. disklift replaces it after an image and its receipt have arrived. While the file does not exist, disklift makes a full image. Use the placeholders that are the same in every export, such as {namespace}, {claim} and {disk}. */
  tracker?: string;
  /** Where disklift learns what has changed. BlockHashes: it reads the whole disk and compares a hash of each MiB with those beside the base. SnapshotMetadata: the CSI driver reports the changes between two snapshots. Auto: the backup's own map for a virtualMachineBackup, else SnapshotMetadata where disklift controller offers it, else BlockHashes. */
  changes: 'Auto' | 'BlockHashes' | 'SnapshotMetadata';
  /** Full: where no incremental image is possible, disklift makes a full image, and reports that in the condition Incremental. Fail: the export fails with the same reason. The first image of a tracker is full in either case. */
  fallback: 'Full' | 'Fail';
}
/** State of the export. Programs should read the conditions. */
export interface DiskExportStatus {
  /** Generation of the DiskExport that this status describes. */
  observedGeneration?: number;
  /** Summary for people. */
  phase?: 'Pending' | 'Scanning' | 'Streaming' | 'Verifying' | 'Succeeded' | 'Failed' | 'Cancelled';
  /** The present activity of the export, or why it ended as it did. */
  message?: string;
  /** Kind of the destination. */
  destination?: 'HTTP' | 'S3' | 'TCP';
  /** Succeeded: Unknown while the export is active. Finished: True once it has ended, with or without success. Progressing. SourceReady. DisksLeftOut: True if files on the volume may be disks but are not exported; the message names them. VolumesLeftOut: True if volumes of the virtual machine are not exported; the message names them. ZerosMayBeLost: True if a converted qcow2 file may be an incremental backup; the message gives advice. Incremental: present with spec.incremental; True if every image holds only changes. ReceiptsMissing: True if the destination has refused a receipt that the request does not require. */
  conditions?: Condition[];
  /** State of the guest's file systems in the images. Offline: no process had the volumes open for writing. Application: the guest froze its file systems for the snapshot. Crash: the state that a power failure leaves. */
  consistency?: 'Offline' | 'Application' | 'Crash';
  /** Time that the images show. Absent without a snapshot. */
  snapshotTime?: string;
  /** Time at which a process first claimed the export. */
  startTime?: string;
  /** Time at which the next attempt begins. Present only while the export waits after a failed attempt. */
  nextAttemptTime?: string;
  /** Time at which the export ended. */
  completionTime?: string;
  /** Time from startTime to completionTime in units for people, such as 12m30s. Absent until the export has ended. */
  duration?: string;
  /** Number of attempts that have begun, of all disks. */
  attempts?: number;
  executor?: ExecutorStatus;
  unfinishedRuns?: UnfinishedRunsStatus;
  progress?: ProgressStatus;
  /** State of each disk. */
  disks?: DiskStatus[];
}
/** One aspect of the export's state. */
export interface Condition {
  /** Name of the condition. */
  type: string;
  /** Whether the condition holds. */
  status: 'True' | 'False' | 'Unknown';
  /** Reason in one word, for programs. */
  reason: string;
  /** Reason as a sentence, for people. */
  message: string;
  /** Time at which the status of the condition last changed. Absent in the condition that the API server sets in a new object. */
  lastTransitionTime?: string;
  /** Generation of the DiskExport that this condition describes. */
  observedGeneration?: number;
}
/** The process that runs the export, or that ran it last. */
export interface ExecutorStatus {
  /** Name of its pod. */
  podName?: string;
  /** UID of its pod. */
  podUID?: string;
  /** Name of its node. */
  nodeName?: string;
}
/** Consecutive runs that began to work on the disks and have not ended in order, including the present run. Absent while there is no such run. After the third lost run the next run waits before it begins, and each further lost run uses up one attempt of backoffLimit. */
export interface UnfinishedRunsStatus {
  /** Number of these runs. */
  count: number;
  /** Bytes of the images that the most successful of these runs has sent. A run that sends more resets the count. */
  sentBytes: number;
}
/** Progress of the export, over all disks. */
export interface ProgressStatus {
  /** Share of the images' bytes that has been sent, in percent, rounded down. */
  percent: number;
  /** Bytes of the disks as a guest sees them. */
  virtualBytes: number;
  /** Bytes of the images. */
  imageBytes: number;
  /** Bytes of the images that have been sent. */
  sentBytes: number;
  /** Bytes of the disks that are not sent because they are zeros or unchanged since the base. */
  skippedBytes: number;
  /** sentBytes in units for people, such as 1.3Gi. */
  written: string;
}
/** One disk of the export. */
export interface DiskStatus {
  /** Path of the disk relative to the volume. For a virtual machine, the name of its volume; vm.yaml is the description of the virtual machine. */
  path: string;
  /** Format of the disk. */
  format?: string;
  /** Phase of this disk. */
  phase?: 'Pending' | 'Scanning' | 'Streaming' | 'Verifying' | 'Succeeded' | 'Failed' | 'Cancelled';
  /** Reason why the last attempt failed, in one word, for programs. */
  reason?: string;
  /** Reason why the last attempt failed, as a sentence, for people. */
  message?: string;
  /** Bytes of the disk as a guest sees it. */
  virtualBytes?: number;
  /** Bytes of the image. */
  imageBytes?: number;
  /** Bytes of the image that have been sent. */
  sentBytes?: number;
  /** Number of attempts that have begun. */
  attempts?: number;
  clusters?: ClusterCounts;
  /** Place of the image, once it has arrived. It holds no secret: a URL from a Secret is shown by its host and the name of the Secret. */
  location?: string;
  /** Entity tag of the image at the destination. */
  etag?: string;
  /** SHA-256 of the image, in hexadecimal digits. */
  sha256?: string;
  /** The comparison that shows that the image arrived. Digest: a digest that the destination reported. ETag: the MD5s in the object's tags. Checksum: the checksum that the destination reported for each part. ReadBack: the image, or its parts without another proof, were read back. Length: only the length. Status: no comparison; the destination answered with success. Close: no comparison; the destination took every byte and closed in order. */
  proof?: 'Digest' | 'ETag' | 'Checksum' | 'ReadBack' | 'Length' | 'Status' | 'Close';
  /** Whether the image holds the whole disk or only what has changed since its base. Present with spec.incremental. */
  type?: 'Full' | 'Incremental';
  /** Reason for the type, in one word, for programs. A full image is not incremental because of FirstImage, BaseMissing, BaseChanged, ReceiptInvalid, OtherDisk, DiskShrank, ChainTooLong, ChangesMissing or ChangesRefused. The changes of an incremental image come from BlockHashes, SnapshotMetadata or VirtualMachineBackup. */
  typeReason?: string;
  /** Bytes of the disk that an incremental image holds, zeros included. */
  changedBytes?: number;
  /** Bytes that were read from the disk. Present with spec.incremental. */
  readBytes?: number;
  base?: BaseStatus;
  upload?: UploadStatus;
}
/** Counts of the disk's clusters. Once the disk has arrived, scanned is the sum of skipped and written. */
export interface ClusterCounts {
  /** Clusters of the disk. */
  total: number;
  /** Clusters that the scan has classified. */
  scanned: number;
  /** Clusters that are not in the image, because they are zeros or unchanged since the base. */
  skipped: number;
  /** Clusters whose data has been sent. */
  written: number;
}
/** The image that an incremental image needs. */
export interface BaseStatus {
  /** Place of the base. It holds no secret. */
  location: string;
  /** SHA-256 of the base, in hexadecimal digits. */
  sha256: string;
}
/** The open upload of this disk at the destination, which the next attempt resumes or aborts. */
export interface UploadStatus {
  /** Id of the upload at the destination. */
  id: string;
  /** Bytes of a part. */
  partSize: number;
  /** Fingerprint of the image that is uploaded. */
  fingerprint: string;
}
