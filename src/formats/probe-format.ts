/** What the bytes of a file say about its format. Pure; who may be believed is told in choose-format. */

import type { DiskFormat } from './image-tree.ts';

/** How much of a file's beginning {@link probeFormat} looks at. */
export const PROBED_BYTES = 512;

interface Magic {
  format: Exclude<DiskFormat, 'raw'>;
  at: number;
  bytes: Buffer;
}

const magic = (format: Magic['format'], text: string): Magic => ({ format, at: 0, bytes: Buffer.from(text, 'latin1') });

const MAGICS: readonly Magic[] = [
  magic('qcow2', 'QFI\xfb'),
  magic('vmdk', 'KDMV'),
  magic('vmdk', 'COWD'),
  magic('vhdx', 'vhdxfile'),
  { format: 'vdi', at: 64, bytes: Buffer.from('7f10dabe', 'hex') },
  // A dynamic one begins with a copy of its footer.
  magic('vpc', 'conectix'),
];

/** First line of a VMDK descriptor as VMware, VirtualBox and editors write it: in any case, after blank lines or a byte order mark. */
const VMDK_DESCRIPTOR = /^(?:\xef\xbb\xbf)?\s*#\s*Disk\s?DescriptorFile/i;

const stands = ({ at, bytes }: Magic, head: Uint8Array) => bytes.equals(head.subarray(at, at + bytes.length));

/** @param head the file's first {@link PROBED_BYTES}, or all that it has @returns undefined for what bears no sign: raw, for all one can tell */
export function probeFormat(head: Uint8Array): Magic['format'] | undefined {
  const found = MAGICS.find((each) => stands(each, head))?.format;
  if (found !== undefined) return found;
  return VMDK_DESCRIPTOR.test(Buffer.from(head.subarray(0, PROBED_BYTES)).toString('latin1')) ? 'vmdk' : undefined;
}
