/** The public surface of the npm package. */

export { type Clock, systemClock } from './common/clock.ts';
export { DiskliftError, type ErrorCode } from './common/errors.ts';
export { createSemaphore, type Semaphore } from './common/semaphore.ts';
export type { EngineContext, ExportKeeper } from './engine/context.ts';
export type { DiskState, ExportObserver } from './engine/observer.ts';
export type { DiskPlan } from './engine/run-disk.ts';
export { type ExportPlan, type ExportResult, runExport } from './engine/run-export.ts';
export type { StreamRange, VirtualImage } from './image/contract.ts';
export { type DigestedImage, digestImage } from './image/digest.ts';
export { type ScanOptions, scanDisk, type ZeroDetection } from './image/scan.ts';
export { sealSource } from './image/seal.ts';
export { createVirtualImage, type VirtualImageInput } from './image/virtual-image.ts';
export { createExportMetrics, type ExportMeter, type ExportMetrics, type ObservedExport } from './metrics/export-metrics.ts';
export { type Libc, loadLibc } from './native/libc.ts';
export { type AllocationMap, type AllocationMapBuilder, createAllocationMapBuilder } from './qcow2/allocation-map.ts';
export { createLayout, type Layout, type Run } from './qcow2/layout.ts';
export type { ExternalDataFile, Qcow2Options } from './qcow2/options.ts';
export type { DiskSource, SourceExtent, SourceIdentity } from './sources/contract.ts';
export { type OpenDiskOptions, openDisk } from './sources/open-disk.ts';
export { diskPath, findDisks, requireRaw } from './sources/volume.ts';
export type { ExportTarget, Receipt, ResumeState, Seal, TransferContext } from './targets/contract.ts';
export { createHttpTarget, type HttpTargetOptions } from './targets/http/http-target.ts';
export { createDestinationPolicy, type DestinationPolicy, type DestinationRules } from './targets/policy/destination-policy.ts';
export { createGuardedAgents, type GuardedAgentOptions, type GuardedAgents } from './targets/policy/guarded-agent.ts';
export { createNetworkAccess, type NetworkAccess } from './targets/policy/network-access.ts';
export { createStdoutTarget } from './targets/stdout/stdout-target.ts';
