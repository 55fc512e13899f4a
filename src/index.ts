/** The public surface of the npm package. README.md, "Use it as a library", lists the names with their purposes. */

export { createBufferPool } from './common/buffers.ts';
export { type Clock, systemClock } from './common/clock.ts';
export { DiskliftError, type ErrorCode } from './common/errors.ts';
export { createLimiter } from './common/limiter.ts';
export { openNamedDisk } from './formats/open-named-disk.ts';
export type { ImageFileExtent, StreamRange, VirtualImage } from './image/contract.ts';
export { digestImage } from './image/digest.ts';
export { type PreparedImage, type PrepareOptions, prepareImage } from './image/prepare-image.ts';
export { type ScanOptions, scanDisk } from './image/scan.ts';
export { sealSource } from './image/seal.ts';
export { createVirtualImage } from './image/virtual-image.ts';
export { loadLibc } from './native/libc.ts';
export { createDestinationPolicy, createNetworkAccess } from './network/destination-policy.ts';
export type { AllocationMap } from './qcow2/write/allocation-map.ts';
export { createLayout, type Layout } from './qcow2/write/layout.ts';
export type { Qcow2Options } from './qcow2/write/options.ts';
export type { DiskSource, FileExtent, SourceExtent, SourceIdentity } from './sources/contract.ts';
export { openNbdDisk } from './sources/nbd/nbd-disk.ts';
export { parseNbdUri } from './sources/nbd/nbd-uri.ts';
export { openDisk } from './sources/open-disk.ts';
export type { ExportTarget, Receipt, TransferContext } from './targets/contract.ts';
export { createHttpTarget } from './targets/http/http-target.ts';
export { createS3Target } from './targets/s3/s3-target.ts';
export { createStdoutTarget } from './targets/stdout/stdout-target.ts';
export { createTcpTarget } from './targets/tcp/tcp-target.ts';
