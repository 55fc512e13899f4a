/** Reads a raw file as a part of an image: a backing file, a data file or an extent. */

import { rawMapping } from '../../qcow2/read/guest-mapping.ts';
import { regularFileSize } from '../../sources/opened-file.ts';
import type { FormatReader } from '../format.ts';

export const RAW_READER: FormatReader = {
  readReferences: async () => ({}),
  // A raw file states no length.
  checkTruncation: async () => undefined,
  async findPlainLayer(file) {
    const sizeBytes = await regularFileSize(file);
    if (sizeBytes === undefined) return undefined;
    return { files: [file], readMapping: async ({ firstFile }) => ({ mapping: rawMapping(firstFile, sizeBytes) }) };
  },
  repairReference: undefined,
  readExtentSize: undefined,
};
