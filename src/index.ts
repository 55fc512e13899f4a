/** The public surface of the npm package. */

export { type BufferPool, createBufferPool, type PooledBuffer } from './common/buffer-pool.ts';
export { type Clock, systemClock } from './common/clock.ts';
export { DiskliftError, type ErrorCode } from './common/errors.ts';
export { createLimiter, type Limiter } from './common/limiter.ts';
export type { EngineContext, ExportKeeper } from './engine/context.ts';
export type { DiskState, ExportObserver, ExportWatcher } from './engine/observer.ts';
export type { DiskPlan } from './engine/run-disk.ts';
export { type ExportPlan, type ExportResult, runExport } from './engine/run-export.ts';
export { findDisks } from './formats/find-disks.ts';
export type { DiskFormat } from './formats/formats.ts';
export type { ImageFile, ImageTree, VmdkExtent } from './formats/image-file.ts';
export type { OpenImageOptions } from './formats/open-image-disk.ts';
export { type NamedDisk, openNamedDisk } from './formats/open-named-disk.ts';
export { openVolumeDisk, type VolumeDisk } from './formats/open-volume-disk.ts';
export type { PlacedRun, StreamRange, VirtualImage } from './image/contract.ts';
export { type DigestedImage, digestImage } from './image/digest.ts';
export { type ScanOptions, scanDisk, type ZeroDetection } from './image/scan.ts';
export { sealSource } from './image/seal.ts';
export { createVirtualImage, type VirtualImageInput } from './image/virtual-image.ts';
export { createExportMetrics, type ExportMetrics, type ExportMetricsOptions, type ObservedExport } from './metrics/export-metrics.ts';
export { type Libc, loadLibc } from './native/libc.ts';
export {
  createDestinationPolicy,
  createNetworkAccess,
  type DestinationPolicy,
  type DestinationRules,
  type NetworkAccess,
} from './network/destination-policy.ts';
export { createGuardedAgents, type GuardedAgentOptions, type GuardedAgents } from './network/guarded-agent.ts';
export type { ProxySettings } from './network/proxy-route.ts';
export { parseHeader, type Qcow2Header, qcow2ClusterSize } from './qcow2/read/parse-header.ts';
export { type AllocationMap, type AllocationMapBuilder, createAllocationMapBuilder } from './qcow2/write/allocation-map.ts';
export { createLayout, type Layout, type Run } from './qcow2/write/layout.ts';
export type { ExternalDataFile, Qcow2Options } from './qcow2/write/options.ts';
export type { DiskExport, DiskExportSpec, DiskExportStatus } from './resource/disk-export.ts';
export { quantityBytes } from './resource/rules.ts';
export { validateDiskExport, validateStatus, validateUpdate } from './resource/validate.ts';
export type { DiskSource, FileExtent, SourceExtent, SourceIdentity } from './sources/contract.ts';
export type { InUse } from './sources/disk-in-use.ts';
export { type NbdLimits, type OpenNbdDiskOptions, openNbdDisk } from './sources/nbd/nbd-disk.ts';
export { type NbdAddress, parseNbdUri } from './sources/nbd/nbd-uri.ts';
export { type OpenDiskOptions, openDisk } from './sources/open-disk.ts';
export type {
  ApiFailure,
  ApiReviews,
  ContainerSpec,
  DataObject,
  EventObject,
  ExportObject,
  KubeApi,
  KubeObject,
  KubeResource,
  LeaseObject,
  MergePatch,
  ObjectList,
  ObjectMeta,
  OwnerReference,
  PatchOptions,
  PodObject,
  Reflector,
  ReviewedAction,
  ReviewedUser,
  Unsaved,
  VolumeUse,
  WatchEvent,
  WatchOptions,
} from './stores/kubernetes/client/contract.ts';
export type { ExportTarget, Receipt, ResumeState, Seal, TransferContext } from './targets/contract.ts';
export { createHttpTarget, type HttpTargetOptions } from './targets/http/http-target.ts';
export type { S3Credentials, S3Limits, S3TargetOptions } from './targets/s3/s3-options.ts';
export { createS3Target } from './targets/s3/s3-target.ts';
export { createStdoutTarget } from './targets/stdout/stdout-target.ts';
export { createTcpTarget, type TcpLimits, type TcpTargetOptions } from './targets/tcp/tcp-target.ts';
