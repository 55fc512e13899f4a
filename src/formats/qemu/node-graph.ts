/**
 * What QEMU is told to open: for every file of an image a node of its own (QEMU, qapi/block-core.json, BlockdevOptions), over
 * descriptors that it inherits. Whatever a file refers to is given or ruled out, so that QEMU follows no name. Pure.
 */

import { pathOfDescriptor } from '../../common/path-of-descriptor.ts';
import type { ImageFile } from '../image-tree.ts';
import { renderVmdkDescriptor } from './vmdk-descriptor.ts';

/** A block node in QEMU's terms; fit for JSON. */
export type BlockNode = Readonly<Record<string, unknown>>;

/** What is behind a descriptor that QEMU inherits. 'text' and 'zeros' are files that exist for QEMU alone. */
export type Inherited =
  | { kind: 'image'; file: ImageFile }
  | { kind: 'text'; text: string }
  /** As long as is asked for; all of it is a hole. */
  | { kind: 'zeros'; sizeBytes: number };

export interface NodeGraph {
  /** The node that is the disk, its children within it. */
  disk: BlockNode;
  /** In the order of their descriptors, the first of which is `firstFd`. */
  inherited: readonly Inherited[];
}

export interface NodeGraphOptions {
  /** By what number QEMU knows the first of its descriptors. */
  firstFd: number;
  isBlockDevice(file: ImageFile): boolean;
}

/** The node's name, for whoever exports it. */
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

  /** One file of zeros does for all stretches of them. */
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
    // A raw node with a size, because QEMU before version 10 takes a VHD's size from its geometry, which is rounded down.
    if (vpc?.kind === 'fixed') return { driver: 'raw', 'read-only': true, size: vpc.sizeBytes, file: bytesOf(file) };
    const protocol =
      extents === undefined
        ? bytesOf(file)
        : plainFile(inherit({ kind: 'text', text: renderVmdkDescriptor(extents, { fdOf, fdOfZeros }) }));
    return {
      driver: format,
      'read-only': true,
      // Reaches the extents, which QEMU opens by the names in our descriptor: it must not mind who else has them open.
      ...(extents === undefined ? {} : { 'force-share': true }),
      file: protocol,
      ...(dataFile === undefined ? {} : { 'data-file': bytesOf(dataFile) }),
      // Null where there is none: left out, QEMU would look into the file for a name.
      ...(format === 'raw' ? {} : HAS_BACKING.has(format) ? { backing: backing === undefined ? null : formatNode(backing) } : {}),
    };
  }

  function bytesOf(file: ImageFile): BlockNode {
    const node = plainFile(fdOf(file));
    // Past the page cache, which may be older than the device.
    return isBlockDevice(file) ? { ...node, driver: 'host_device', cache: { direct: true } } : node;
  }

  return { disk: { 'node-name': DISK_NODE, ...formatNode(root) }, inherited };
}

/** Formats that may have a backing file, and for which QEMU would look for its name. */
const HAS_BACKING: ReadonlySet<string> = new Set(['qcow2', 'vmdk']);

/** The locks are taken by us, with the descriptor that QEMU opens anew by this name. */
function plainFile(fd: number): BlockNode {
  return { driver: 'file', filename: pathOfDescriptor({ fd }), 'read-only': true, locking: 'off' };
}
