/** Tables of other formats than qcow2, whose entries say where the blocks of a disk lie in the file. Pure. */

import { DiskliftError } from '../common/errors.ts';

export interface BlockTable {
  /** What the format calls it, for messages. */
  what: string;
  /** In the file. */
  offset: number;
  entryCount: number;
  entrySizeBytes: number;
  /**
   * @param view of some of the table; the entry lies at `at` there
   * @returns where in the file ends what the entry `index` stands for, as far as the disk has it; 0 where that is nothing
   */
  endOf(view: DataView, { at, index }: { at: number; index: number }): number;
}

export interface MeasuredFile {
  /** For messages. */
  name: string;
  fileSizeBytes: number;
}

/** @throws DiskliftError `SourceReadError` */
export function requireTableInFile({ name, fileSizeBytes }: MeasuredFile, { what, offset, entryCount, entrySizeBytes }: BlockTable): void {
  const end = offset + entryCount * entrySizeBytes;
  if (end > fileSizeBytes) throw cutShort(name, `its ${what} goes on to byte ${end}`, fileSizeBytes);
}

/**
 * @param bytes entries of `table` from the entry `first` on
 * @throws DiskliftError `SourceReadError` that names the entry's offset
 */
export function checkEntries(bytes: Uint8Array, first: number, table: BlockTable, { name, fileSizeBytes }: MeasuredFile): void {
  const { what, offset, entrySizeBytes } = table;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0, index = first; at < bytes.length; at += entrySizeBytes, index += 1) {
    const end = table.endOf(view, { at, index });
    if (end > fileSizeBytes)
      throw cutShort(name, `its ${what} at byte ${offset + index * entrySizeBytes} leads to byte ${end}`, fileSizeBytes);
  }
}

/** @param why what should be there, up to which byte. Tried again: it may be still on its way. */
export function cutShort(name: string, why: string, fileSizeBytes: number): DiskliftError {
  return new DiskliftError(
    'SourceReadError',
    `${name}: is cut short or damaged: ${why}, and the file ends at ${fileSizeBytes}; copy it once more`,
  );
}
