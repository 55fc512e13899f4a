/** Which format a file is read as when nobody has said so. A guest writes what it likes to its raw disk (docs/decisions/0015). */

import path from 'node:path';
import { alignUp } from '../common/bytes.ts';
import { DiskliftError } from '../common/errors.ts';
import { KUBEVIRT_DISK } from './disk-names.ts';
import type { DiskFormat } from './image-tree.ts';
import { PROBED_BYTES, probeFormat } from './probe-format.ts';
import { type OpenedFile, readUpTo } from './read-up-to.ts';
import { hasVpcCookie } from './references/vpc-footer.ts';
import { vmdkPartOf } from './vmdk-part-name.ts';

export interface ChosenFormat {
  format: DiskFormat;
  /** Only the bytes say so, not the name. Whoever wrote them may be the guest, so the file must refer to no other. */
  isGuess: boolean;
}

const FORMAT_OF_EXTENSION: Readonly<Record<string, DiskFormat>> = {
  ...{ '.img': 'raw', '.raw': 'raw', '.qcow2': 'qcow2', '.vmdk': 'vmdk' },
  ...{ '.vhdx': 'vhdx', '.vdi': 'vdi', '.vhd': 'vpc', '.vpc': 'vpc' },
};

const SECTOR_SIZE_BYTES = 512;

function formatOfName(name: string): DiskFormat | undefined {
  return vmdkPartOf(name)?.isWholeDisk ? 'raw' : FORMAT_OF_EXTENSION[path.extname(name).toLowerCase()];
}

/**
 * For a file of which nobody has stated the format. Name and bytes must agree; disk.img is raw whatever it holds.
 * @throws DiskliftError `FormatUnsupported` where name and bytes contradict each other, `SourceReadError`
 */
export async function chooseFormat(file: OpenedFile): Promise<ChosenFormat> {
  const { name } = file;
  if (path.basename(name) === KUBEVIRT_DISK) return { format: 'raw', isGuess: false };
  const named = formatOfName(name);
  if (named === 'vpc' && (await endsAsVhdFile(file))) return { format: 'vpc', isGuess: false };
  const found = probeFormat(await readUpTo(file, 0, PROBED_BYTES));
  if (named === undefined) return { format: found ?? 'raw', isGuess: found !== undefined };
  if (named === (found ?? 'raw')) return { format: named, isGuess: false };
  const part = vmdkPartOf(name);
  if (named === 'vmdk' && part !== undefined)
    throw new DiskliftError('FormatUnsupported', `${name}: is named like a part of a VMDK, and is no disk; name ${part.descriptorName}`);
  throw new DiskliftError(
    'FormatUnsupported',
    named === 'raw'
      ? `${name}: is named like a raw disk and begins like a ${found} image, which its guest may have written; state its format, Raw or another`
      : `${name}: is named like a ${named} image and is none; state its format, or rename it`,
  );
}

async function endsAsVhdFile(file: OpenedFile): Promise<boolean> {
  const { size } = await file.handle.stat();
  // Old programs wrote 511 bytes.
  const lastSectorAt = alignUp(size, SECTOR_SIZE_BYTES) - SECTOR_SIZE_BYTES;
  return lastSectorAt >= 0 && hasVpcCookie(await readUpTo(file, lastSectorAt, SECTOR_SIZE_BYTES));
}
