/** Signs of VMDK files: names of an image's parts, and the first line of a descriptor. */

import path from 'node:path';
import type { ImagePart } from '../format.ts';

/**
 * First line of a descriptor as VMware, VirtualBox and editors write it: in any case, after blank lines or a byte order
 * mark. The text is read as latin1.
 */
export const VMDK_DESCRIPTOR_START = /^(?:\xef\xbb\xbf)?\s*#\s*Disk\s?DescriptorFile/i;

/**
 * VMware and VirtualBox name parts NAME-flat.vmdk or NAME-s001.vmdk, beside the descriptor NAME.vmdk. flat: the guest's
 * bytes. f001, s001: pieces of 2 GiB, flat and sparse. delta, sesparse: a snapshot's data. ctk: the list of changed
 * blocks. rdm, rdmp: a device. pt: a partition table. digest: hashes of blocks.
 */
const PART = /-(flat|delta|sesparse|ctk|rdmp?|digest|pt|[fs]\d{3,5})(?=\.vmdk$)/i;

/** @param name of a file, with or without its directory @returns undefined for another name */
export function vmdkPartOf(name: string): ImagePart | undefined {
  const [, kind] = PART.exec(path.basename(name)) ?? [];
  if (kind === undefined) return undefined;
  return { descriptorName: path.basename(name).replace(PART, ''), isWholeDisk: kind.toLowerCase() === 'flat' };
}
