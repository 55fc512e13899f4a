/**
 * The parts of the truncation check that formats other than qcow2 share: block tables, whose entries locate the blocks
 * of a disk in the file, must lead to no byte past the file's end.
 */

import { KIB } from '../common/bytes.ts';
import { DiskliftError } from '../common/errors.ts';
import { type ReadTarget, readExactly } from '../sources/opened-file.ts';

export interface BlockTable {
  /** The format's name of the table, for messages. */
  what: string;
  /** Offset in the file. */
  offset: number;
  entryCount: number;
  entrySizeBytes: number;
  /**
   * @param view of some of the table; the entry lies at `at` there
   * @returns the end in the file of the block that the entry `index` locates, as far as the disk has it; 0 for an entry
   * without a block
   */
  endOf(view: DataView, { at, index }: { at: number; index: number }): number;
}

export interface MeasuredFile {
  /** For messages. */
  name: string;
  fileSizeBytes: number;
}

export interface FileToCheck extends MeasuredFile {
  target: ReadTarget;
  signal: AbortSignal;
}

/** Checking this many bytes takes a millisecond or two, during which no other work of the process runs. */
const PIECE_BYTES = 512 * KIB;

/**
 * Reads a table and checks it, a piece at a time.
 * @param onPiece receives the pieces that have passed
 * @throws DiskliftError `SourceReadError`, `SourceChanged`, `Cancelled`
 */
export async function checkTable(file: FileToCheck, table: BlockTable, onPiece?: (piece: Uint8Array) => void): Promise<void> {
  requireTableInFile(file, table);
  const { offset, entryCount, entrySizeBytes } = table;
  const entriesPerPiece = PIECE_BYTES / entrySizeBytes;
  const buffer = Buffer.allocUnsafeSlow(Math.min(entryCount, entriesPerPiece) * entrySizeBytes);
  for (let first = 0; first < entryCount; first += entriesPerPiece) {
    const piece = buffer.subarray(0, Math.min(entryCount - first, entriesPerPiece) * entrySizeBytes);
    await readExactly(file.target, piece, offset + first * entrySizeBytes, file.signal);
    checkEntries(piece, first, table, file);
    onPiece?.(piece);
  }
}

function requireTableInFile({ name, fileSizeBytes }: MeasuredFile, { what, offset, entryCount, entrySizeBytes }: BlockTable): void {
  const end = offset + entryCount * entrySizeBytes;
  if (end > fileSizeBytes) throw truncatedError(name, `its ${what} goes on to byte ${end}`, fileSizeBytes);
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
      throw truncatedError(name, `its ${what} at byte ${offset + index * entrySizeBytes} leads to byte ${end}`, fileSizeBytes);
  }
}

/** The error is retryable, because the file may still be arriving. @param why the bytes that the file should have */
export function truncatedError(name: string, why: string, fileSizeBytes: number): DiskliftError {
  return new DiskliftError(
    'SourceReadError',
    `${name}: is cut short or damaged: ${why}, and the file ends at ${fileSizeBytes}; copy it once more`,
  );
}
