/** Options of a qcow2 image, and the combinations that are allowed. */

import { isPowerOfTwo } from '../../common/bytes.ts';
import { DiskliftError } from '../../common/errors.ts';
import {
  DEFAULT_REFCOUNT_BITS,
  MAX_BACKING_FILE_NAME_LENGTH,
  MAX_CLUSTER_SIZE_BYTES,
  MIN_CLUSTER_SIZE_BYTES,
  REFCOUNT_BITS,
} from '../constants.ts';

export interface Qcow2Options {
  /** 512 bytes to 2 MiB, a power of two. */
  clusterSizeBytes: number;
  /** 1, 2, 4, 8, 16, 32 or 64. */
  refcountBits: number;
  version: 2 | 3;
  /** Leaves the data in this file: the image holds metadata only and names the file. Version 3 only. */
  dataFile?: ExternalDataFile | undefined;
  /** Makes the image a delta, which leaves unchanged clusters to this file. Version 3 only. */
  backingFile?: BackingFile | undefined;
}

/** QEMU's names of the formats that a backing file may have. */
export const BACKING_FORMATS = ['qcow2', 'raw'] as const;

export interface BackingFile {
  /** Relative: QEMU resolves it against the directory of the image, wherever both are moved to. */
  name: string;
  /** In the header, so that no reader guesses the format from bytes that the guest wrote. */
  format: (typeof BACKING_FORMATS)[number];
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
  const { clusterSizeBytes, refcountBits, version, dataFile, backingFile } = options;
  if (!isPowerOfTwo(clusterSizeBytes) || clusterSizeBytes < MIN_CLUSTER_SIZE_BYTES || clusterSizeBytes > MAX_CLUSTER_SIZE_BYTES)
    throw invalid(`cluster size ${clusterSizeBytes} is not a power of two from ${MIN_CLUSTER_SIZE_BYTES} to ${MAX_CLUSTER_SIZE_BYTES}`);
  if (!REFCOUNT_BITS.includes(refcountBits)) throw invalid(`refcount width ${refcountBits} is not one of ${REFCOUNT_BITS.join(', ')}`);
  if (version !== 2 && version !== 3) throw invalid(`qcow2 version ${String(version)} is not 2 or 3`);
  if (version === 2 && refcountBits !== DEFAULT_REFCOUNT_BITS)
    throw invalid(`refcount width ${refcountBits} needs version 3; version 2 has ${DEFAULT_REFCOUNT_BITS} only`);
  if (backingFile !== undefined) validateBackingFile(backingFile, options);
  if (dataFile !== undefined) validateDataFile(dataFile, options);
}

function validateBackingFile({ name, format }: BackingFile, { version, dataFile }: Qcow2Options): void {
  if (version === 2) throw invalid('an image on a base needs version 3; version 2 has no clusters of zeros');
  if (dataFile !== undefined) throw invalid('an image on a base cannot have an external data file');
  if (!BACKING_FORMATS.includes(format))
    throw invalid(`the format of the base, ${String(format)}, is not one of ${BACKING_FORMATS.join(', ')}`);
  if (name === '' || CONTROL_CHARACTER.test(name) || !name.isWellFormed())
    throw invalid('the name of the base is empty, or has characters in it that no file name should have');
  if (name.startsWith('/'))
    throw invalid(`the name of the base, ${name}, is absolute; give the name that it has relative to the directory of the image`);
  if (PROTOCOL.test(name)) throw invalid(`the name of the base, ${name}, begins like a protocol of QEMU; put ./ in front of it`);
  if (/(^|\/)\.{0,2}$/.test(name)) throw invalid(`the name of the base, ${name}, is a directory`);
  const lengthBytes = Buffer.byteLength(name);
  if (lengthBytes > MAX_BACKING_FILE_NAME_LENGTH)
    throw invalid(`the name of the base has ${lengthBytes} bytes, and QEMU reads at most ${MAX_BACKING_FILE_NAME_LENGTH}`);
}

function validateDataFile(dataFile: ExternalDataFile, { version, clusterSizeBytes }: Qcow2Options): void {
  if (version === 2) throw invalid('an external data file needs version 3');
  if (clusterSizeBytes === MIN_CLUSTER_SIZE_BYTES)
    throw invalid(`an external data file needs a cluster size above ${MIN_CLUSTER_SIZE_BYTES}`);
  if (dataFile.path === '' || CONTROL_CHARACTER.test(dataFile.path))
    throw invalid('the name of the external data file is empty or has control characters in it');
  if (PROTOCOL.test(dataFile.path))
    throw invalid(`the name of the external data file, ${dataFile.path}, begins like a protocol of QEMU; put ./ in front of it`);
}
