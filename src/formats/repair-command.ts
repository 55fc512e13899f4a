/** Advice for changing a name that an image stores. Pure. */

import type { DiskFormat } from './image-tree.ts';

export interface NameToRepair {
  /** Format of the image that holds the name. */
  format: DiskFormat;
  image: string;
  what: 'backing file' | 'data file' | 'extent';
  /** The name that the image is to hold. */
  newName: string;
  /** Format of the named file, as the image states it. */
  namedFormat?: DiskFormat | undefined;
}

/** @returns a command for a shell, or other advice */
export function repairOfName({ format, image, what, newName, namedFormat }: NameToRepair): string {
  if (format !== 'qcow2') return `write its relative name, ${JSON.stringify(newName)}, into the descriptor`;
  if (what === 'backing file') return `run qemu-img rebase -u -F ${namedFormat ?? 'FORMAT'} -b ${quoted(newName)} ${quoted(image)}`;
  return `run qemu-img amend -f qcow2 -o data_file=${quoted(newName.replaceAll(',', ',,'))} ${quoted(image)} in its directory`;
}

function quoted(text: string): string {
  return /^[\w./@%+=:,-]+$/.test(text) && !text.startsWith('-') ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
