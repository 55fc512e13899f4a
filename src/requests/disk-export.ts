/** The DiskExport resource with all defaults filled in. To be generated from manifests/crd.yaml. */

export interface SecretKeyReference {
  name: string;
  key: string;
}
export interface SecretReference {
  name: string;
}
export interface TlsSpec {
  caBundleRef?: { configMap?: string; secret?: string; key: string };
  clientCertificateSecretRef?: SecretReference;
  serverName?: string;
}
export interface HttpDestination {
  url?: string;
  urlSecretRef?: SecretKeyReference;
  method: 'PUT' | 'POST';
  headersSecretRef?: SecretReference;
  ifNoneMatch: boolean;
  tls?: TlsSpec;
}
export interface S3Destination {
  endpoint?: string;
  region: string;
  bucket: string;
  key: string;
  credentialsSecretRef?: SecretReference;
  forcePathStyle: boolean;
  partSize?: number | string;
  concurrency: number;
  checksum: 'None' | 'CRC32' | 'CRC32C' | 'CRC64NVME';
  sha256Object: boolean;
  tls?: TlsSpec;
}
export interface TcpDestination {
  host: string;
  port: number;
  protocol: 'Raw' | 'Acknowledged';
  tls?: TlsSpec;
}
export interface DiskExportSpec {
  source: {
    persistentVolumeClaim: { claimName: string };
    disks?: { path: string; format: 'Auto' | 'Raw' | 'QCOW2' | 'VMDK' | 'VHDX' | 'VDI' | 'VPC' }[];
    inUse: 'Wait' | 'Fail' | 'Allow';
    verify: 'Auto' | 'Always' | 'Never';
  };
  image: { clusterSize: number | string; version: 2 | 3; refcountBits: 1 | 2 | 4 | 8 | 16 | 32 | 64; zeroDetection: 'Content' | 'Extents' };
  destination: { http?: HttpDestination; s3?: S3Destination; tcp?: TcpDestination };
  checksum: 'SHA256' | 'None';
  backoffLimit: number;
  activeDeadlineSeconds?: number;
  ttlSecondsAfterFinished?: number;
  cancel: boolean;
}
export interface Condition {
  type: string;
  status: 'True' | 'False' | 'Unknown';
  reason: string;
  message: string;
  lastTransitionTime: string;
  observedGeneration?: number;
}
export interface DiskStatus {
  path: string;
  format?: string;
  phase?: string;
  virtualBytes?: number;
  imageBytes?: number;
  sentBytes?: number;
  attempts?: number;
  clusters?: { total: number; scanned: number; skipped: number; written: number };
  location?: string;
  etag?: string;
  sha256?: string;
  reason?: string;
  message?: string;
  upload?: { id: string; partSize: number; fingerprint: string };
}
export interface DiskExportStatus {
  observedGeneration?: number;
  phase?: 'Pending' | 'Scanning' | 'Streaming' | 'Verifying' | 'Succeeded' | 'Failed' | 'Cancelled';
  message?: string;
  destination?: 'HTTP' | 'S3' | 'TCP';
  conditions?: Condition[];
  startTime?: string;
  completionTime?: string;
  attempts?: number;
  executor?: { podName?: string; podUID?: string; nodeName?: string };
  progress?: { percent: number; virtualBytes: number; imageBytes: number; sentBytes: number; skippedBytes: number; written: string };
  disks?: DiskStatus[];
}
export interface DiskExport {
  apiVersion: 'disklift.dev/v1alpha1';
  kind: 'DiskExport';
  metadata: { name: string; namespace: string; uid: string; generation?: number; [key: string]: unknown };
  spec: DiskExportSpec;
  status?: DiskExportStatus;
}
