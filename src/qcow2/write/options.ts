/** Options of a qcow2 image, and the combinations that are allowed. */

import { isPowerOfTwo } from '../../common/bytes.ts';
import { DiskliftError } from '../../common/errors.ts';
import { DEFAULT_REFCOUNT_BITS, MAX_CLUSTER_SIZE_BYTES, MIN_CLUSTER_SIZE_BYTES, REFCOUNT_BITS } from '../constants.ts';

export interface Qcow2Options {
  /** 512 bytes to 2 MiB, a power of two. */
  clusterSizeBytes: number;
  /** 1, 2, 4, 8, 16, 32 or 64. */
  refcountBits: number;
  version: 2 | 3;
  /** Leaves the data in this file: the image holds metadata only and names the file. Version 3 only. */
  dataFile?: ExternalDataFile | undefined;
}

interface ExternalDataFile {
  /**
   * The name that the image stores. QEMU resolves a relative name against the working directory of the process that
   * opens the image.
   */
  path: string;
  /** The data file is at the same time a complete raw image: every cluster is mapped to itself. */
  raw: boolean;
}

/** Prefix that QEMU reads as a protocol, such as nbd: or http:. */
const PROTOCOL = /^[^/]*:/;
const CONTROL_CHARACTER = /\p{Cc}/u;

function invalid(message: string): DiskliftError {
  return new DiskliftError('InvalidRequest', message);
}

/** @throws DiskliftError `InvalidRequest` that says what is allowed. */
export function validateOptions(options: Qcow2Options): void {
  const { clusterSizeBytes, refcountBits, version, dataFile } = options;
  if (!isPowerOfTwo(clusterSizeBytes) || clusterSizeBytes < MIN_CLUSTER_SIZE_BYTES || clusterSizeBytes > MAX_CLUSTER_SIZE_BYTES)
    throw invalid(`cluster size ${clusterSizeBytes} is not a power of two from ${MIN_CLUSTER_SIZE_BYTES} to ${MAX_CLUSTER_SIZE_BYTES}`);
  if (!REFCOUNT_BITS.includes(refcountBits)) throw invalid(`refcount width ${refcountBits} is not one of ${REFCOUNT_BITS.join(', ')}`);
  if (version !== 2 && version !== 3) throw invalid(`qcow2 version ${String(version)} is not 2 or 3`);
  if (version === 2 && refcountBits !== DEFAULT_REFCOUNT_BITS)
    throw invalid(`refcount width ${refcountBits} needs version 3; version 2 has ${DEFAULT_REFCOUNT_BITS} only`);
  if (dataFile === undefined) return;
  if (version === 2) throw invalid('an external data file needs version 3');
  if (clusterSizeBytes === MIN_CLUSTER_SIZE_BYTES)
    throw invalid(`an external data file needs a cluster size above ${MIN_CLUSTER_SIZE_BYTES}`);
  if (dataFile.path === '' || CONTROL_CHARACTER.test(dataFile.path))
    throw invalid('the name of the external data file is empty or has control characters in it');
  if (PROTOCOL.test(dataFile.path))
    throw invalid(`the name of the external data file, ${dataFile.path}, begins like a protocol of QEMU; put ./ in front of it`);
}
