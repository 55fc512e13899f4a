/** Names that VMware and VirtualBox give to the parts of a VMDK: NAME-flat.vmdk or NAME-s001.vmdk beside the descriptor NAME.vmdk. */

import path from 'node:path';

export interface VmdkPart {
  /** The name of the descriptor's file, in the same directory as the part. */
  descriptorName: string;
  /** Whether the part is the whole disk as the guest sees it. */
  isWholeDisk: boolean;
}

/**
 * flat: the guest's bytes. f001, s001: pieces of 2 GiB, flat and sparse. delta, sesparse: a snapshot's data. ctk: the list of changed
 * blocks. rdm, rdmp: a device. pt: a partition table. digest: hashes of blocks.
 */
const PART = /-(flat|delta|sesparse|ctk|rdmp?|digest|pt|[fs]\d{3,5})(?=\.vmdk$)/i;

/** @param name of a file, with or without its directory @returns undefined for a name that is no VMDK part's */
export function vmdkPartOf(name: string): VmdkPart | undefined {
  const [, kind] = PART.exec(path.basename(name)) ?? [];
  if (kind === undefined) return undefined;
  return { descriptorName: path.basename(name).replace(PART, ''), isWholeDisk: kind.toLowerCase() === 'flat' };
}
