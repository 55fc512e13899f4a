/** Reading the header of a qcow2 image. */

import { parseHeader, type Qcow2Header, qcow2ClusterSize } from '../../qcow2/read/parse-header.ts';
import { type OpenedFile, readUpTo } from '../../sources/opened-file.ts';

/** The beginning of the file that tells how long its first cluster is. */
const HEADER_START_BYTES = 24;

/** @throws DiskliftError `FormatUnsupported`, `SourceReadError` */
export async function readHeader(file: OpenedFile): Promise<Qcow2Header> {
  const clusterSizeBytes = qcow2ClusterSize(await readUpTo(file, 0, HEADER_START_BYTES), file.name);
  return parseHeader(await readUpTo(file, 0, clusterSizeBytes), file.name);
}
