/**
 * The block nodes that QEMU opens: one for each file of an image (QEMU, qapi/block-core.json, BlockdevOptions), over
 * descriptors that QEMU inherits. Each reference of a file is given or ruled out, so that QEMU follows no name. Pure.
 */

import { pathOfDescriptor } from '../../common/path-of-descriptor.ts';
import { formatNamed } from '../formats.ts';
import type { ImageFile, VmdkExtent } from '../image-file.ts';

/** A block node in QEMU's terms; fit for JSON. */
export type BlockNode = Readonly<Record<string, unknown>>;

/** A file whose descriptor QEMU inherits. 'text' and 'zeros' are files that exist for QEMU alone. */
export type Inherited =
  | { kind: 'image'; file: ImageFile }
  | { kind: 'text'; text: string }
  /** A file of `sizeBytes` that is one hole. */
  | { kind: 'zeros'; sizeBytes: number };

export interface NodeGraph {
  /** The node of the disk, with its children. */
  disk: BlockNode;
  /** In the order of their descriptors, the first of which is `firstFd`. */
  inherited: readonly Inherited[];
}

export interface NodeGraphOptions {
  /** QEMU's number of the first inherited descriptor. */
  firstFd: number;
  isBlockDevice(file: ImageFile): boolean;
}

/** The name of the disk's node, by which it is exported. */
export const DISK_NODE = 'disk';

export function createNodeGraph(root: ImageFile, { firstFd, isBlockDevice }: NodeGraphOptions): NodeGraph {
  const inherited: Inherited[] = [];
  const fdOfFile = new Map<ImageFile, number>();
  let zeros: { kind: 'zeros'; sizeBytes: number; fd: number } | undefined;

  const inherit = (what: Inherited): number => firstFd + inherited.push(what) - 1;

  function fdOf(file: ImageFile): number {
    const fd = fdOfFile.get(file) ?? inherit({ kind: 'image', file });
    fdOfFile.set(file, fd);
    return fd;
  }

  /** One file of zeros serves all extents of zeros. */
  function fdOfZeros(sizeBytes: number): number {
    if (zeros === undefined) {
      zeros = { kind: 'zeros', sizeBytes, fd: firstFd + inherited.length };
      inherit(zeros);
    }
    zeros.sizeBytes = Math.max(zeros.sizeBytes, sizeBytes);
    return zeros.fd;
  }

  function formatNode(file: ImageFile): BlockNode {
    const { format, backing, dataFile, extents, vpc } = file;
    // A raw node with a size, because QEMU before version 10 takes a VHD's size from its geometry, which is rounded
    // down.
    if (vpc?.kind === 'fixed') return { driver: 'raw', 'read-only': true, size: vpc.sizeBytes, file: bytesOf(file) };
    const protocol =
      extents === undefined
        ? bytesOf(file)
        : plainFile(inherit({ kind: 'text', text: renderVmdkDescriptor(extents, { fdOf, fdOfZeros }) }));
    return {
      driver: format,
      'read-only': true,
      // Applies to the extents, which QEMU opens by the names in our descriptor: other processes may have them open.
      ...(extents === undefined ? {} : { 'force-share': true }),
      file: protocol,
      ...(dataFile === undefined ? {} : { 'data-file': bytesOf(dataFile) }),
      // Null where there is no backing file: left out, QEMU would look into the file for a name.
      ...(formatNamed(format).mayHaveBacking ? { backing: backing === undefined ? null : formatNode(backing) } : {}),
    };
  }

  function bytesOf(file: ImageFile): BlockNode {
    const node = plainFile(fdOf(file));
    // Bypasses the page cache, which may be older than the device.
    return isBlockDevice(file) ? { ...node, driver: 'host_device', cache: { direct: true } } : node;
  }

  return { disk: { 'node-name': DISK_NODE, ...formatNode(root) }, inherited };
}

/** disklift holds the locks itself, on the descriptor that QEMU opens again by this name. */
function plainFile(fd: number): BlockNode {
  return { driver: 'file', filename: pathOfDescriptor({ fd }), 'read-only': true, locking: 'off' };
}

interface ExtentDescriptors {
  fdOf(file: ImageFile): number;
  fdOfZeros(sizeBytes: number): number;
}

const SECTOR_SIZE_BYTES = 512;

const HEAD = ['# Disk DescriptorFile', 'version=1', 'CID=fffffffe', 'parentCID=ffffffff', 'createType="twoGbMaxExtentSparse"'];

/**
 * A descriptor of our own replaces the one on the volume: its extents are descriptors that QEMU inherits. QEMU 7.2
 * opens no extent by itself, and takes no extents from a node graph. Zeros are read from a file of zeros, because QEMU
 * skips an extent of type ZERO, and the extents behind it would come too early.
 */
function renderVmdkDescriptor(extents: readonly VmdkExtent[], descriptors: ExtentDescriptors): string {
  const lines = extents.map((extent) => `RW ${extent.sizeBytes / SECTOR_SIZE_BYTES} ${fileOf(extent, descriptors)}`);
  return [...HEAD, ...lines, ''].join('\n');
}

function fileOf(extent: VmdkExtent, { fdOf, fdOfZeros }: ExtentDescriptors): string {
  const named = (fd: number) => `"${pathOfDescriptor({ fd })}"`;
  if (extent.kind === 'zero') return `FLAT ${named(fdOfZeros(extent.sizeBytes))} 0`;
  if (extent.kind === 'sparse') return `SPARSE ${named(fdOf(extent.file))}`;
  return `FLAT ${named(fdOf(extent.file))} ${extent.offsetBytes / SECTOR_SIZE_BYTES}`;
}
