/** Reading the block tables of an image, piece by piece, to see that the file has all that they point at. */

import { KIB } from '../common/bytes.ts';
import { type ReadTarget, readExactly } from '../sources/opened-file.ts';
import { type BlockTable, checkEntries, type MeasuredFile, requireTableInFile } from './block-table.ts';

export interface FileToCheck extends MeasuredFile {
  target: ReadTarget;
  signal: AbortSignal;
}

/** Looking at so many entries takes a millisecond or two, in which nothing else has its turn. */
const PIECE_BYTES = 512 * KIB;

/**
 * @param onPiece called with pieces of the table that are good
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
