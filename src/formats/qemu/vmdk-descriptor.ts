/**
 * A VMDK descriptor of our own in place of the one that lies on the volume: its extents are descriptors that QEMU inherits. Pure.
 * QEMU 7.2 opens no extent by itself, and takes no extents from a node graph.
 */

import { pathOfDescriptor } from '../../common/path-of-descriptor.ts';
import type { ImageFile, VmdkExtent } from '../image-tree.ts';

export interface ExtentDescriptors {
  fdOf(file: ImageFile): number;
  fdOfZeros(sizeBytes: number): number;
}

const SECTOR_SIZE_BYTES = 512;

const HEAD = ['# Disk DescriptorFile', 'version=1', 'CID=fffffffe', 'parentCID=ffffffff', 'createType="twoGbMaxExtentSparse"'];

/** Stretches of zeros are read from a file of them: QEMU passes over an extent of type ZERO, and all behind it would come too early. */
export function renderVmdkDescriptor(extents: readonly VmdkExtent[], descriptors: ExtentDescriptors): string {
  const lines = extents.map((extent) => `RW ${extent.sizeBytes / SECTOR_SIZE_BYTES} ${placeOf(extent, descriptors)}`);
  return [...HEAD, ...lines, ''].join('\n');
}

function placeOf(extent: VmdkExtent, { fdOf, fdOfZeros }: ExtentDescriptors): string {
  const named = (fd: number) => `"${pathOfDescriptor({ fd })}"`;
  if (extent.kind === 'zero') return `FLAT ${named(fdOfZeros(extent.sizeBytes))} 0`;
  if (extent.kind === 'sparse') return `SPARSE ${named(fdOf(extent.file))}`;
  return `FLAT ${named(fdOf(extent.file))} ${extent.offsetBytes / SECTOR_SIZE_BYTES}`;
}
