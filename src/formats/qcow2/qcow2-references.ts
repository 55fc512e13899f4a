/** What a qcow2 image refers to, where it can be read at all. */

import { DiskliftError } from '../../common/errors.ts';
import { guestSizeBytes } from '../../qcow2/read/foreign-image.ts';
import { parseHeader } from '../../qcow2/read/parse-header.ts';
import type { References } from '../image-references.ts';

/** @param bytes the image's first cluster @throws DiskliftError `FormatUnsupported` */
export function parseQcow2References(bytes: Uint8Array, name: string): References {
  const header = parseHeader(bytes, name);
  const { backingFile, dataFile, encryption, isCorrupt } = header;
  const refuse = (why: string) => new DiskliftError('FormatUnsupported', `${name}: ${why}`);
  if (encryption !== 'none') throw refuse('is encrypted');
  if (isCorrupt) throw refuse('is marked as corrupt; qemu-img check -r all may repair it');
  if (dataFile !== undefined && dataFile.name === undefined) throw refuse('has its data in another file and does not name it');
  return {
    diskSizeBytes: guestSizeBytes(header),
    ...(backingFile === undefined ? {} : { backing: backingFile }),
    ...(dataFile?.name === undefined ? {} : { dataFile: { name: dataFile.name } }),
  };
}
