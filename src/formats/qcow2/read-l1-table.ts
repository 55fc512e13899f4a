/** Reading where the L2 tables of an image are. */

import type { ForeignImage } from '../../qcow2/read/foreign-image.ts';
import { parseL1Table, placeOfL1Table } from '../../qcow2/read/l1-table.ts';
import { type ReadTarget, readExactly } from '../../sources/opened-file.ts';

/** @returns as {@link parseL1Table}. @throws DiskliftError `SourceReadError` for tables that are wrong, too; `SourceChanged`, `Cancelled` */
export async function readL1Table(target: ReadTarget, image: ForeignImage, signal: AbortSignal): Promise<Float64Array> {
  const { offset, length } = placeOfL1Table(image);
  const bytes = Buffer.allocUnsafeSlow(length);
  await readExactly(target, bytes, offset, signal);
  return parseL1Table(bytes, image);
}
