/**
 * Checks that a file holds all clusters of its L2 tables, which a truncated file does not. Pure; fed table by table.
 */

import { cutShort, type ForeignImage, guestSizeBytes, l2TableRange, requireInFile, wholeSectors } from './foreign-image.ts';
import { type ClusterRun, parseExtendedL2Table, parseL2Table } from './l2-table.ts';

export interface TruncationCheck {
  /**
   * @param bytes the table of the L1 index `index`, one cluster
   * @param offset of the table in the file
   * @throws DiskliftError `SourceReadError` that names the table's offset and the data beyond the file's end
   */
  addTable(bytes: Uint8Array, { index, offset }: { index: number; offset: number }): void;
  /**
   * Offsets of compressed clusters whose last sector is only partly in the file. Only their bytes show whether they are
   * whole.
   */
  readonly tails: ReadonlySet<number>;
  /** Whether one of the added tables has a zero flag, of a cluster or of a subcluster. */
  readonly hasExplicitZeros: boolean;
}

/** At most 512 clusters begin within a sector, and one in front of it: every cluster has at least a byte. */
const MAX_TAIL_COUNT = 513;

export function createTruncationCheck(image: ForeignImage): TruncationCheck {
  const { header, fileSizeBytes } = image;
  const { clusterSizeBytes } = header;
  const sizeBytes = guestSizeBytes(header);
  const parse = header.hasExtendedL2 ? parseExtendedL2Table : parseL2Table;
  const tails = new Set<number>();
  let hasExplicitZeros = false;

  function checkCompressed(hostOffset: number, length: number, place: { guestOffset: number; tableOffset: number }): void {
    const end = hostOffset + length;
    if (end <= fileSizeBytes) return;
    const mayBeWhole = end <= wholeSectors(fileSizeBytes) && hostOffset < fileSizeBytes && tails.size < MAX_TAIL_COUNT;
    if (!mayBeWhole)
      throw cutShort(image, place.tableOffset, `has ${place.guestOffset} of the disk, compressed, from ${hostOffset} to ${end}`);
    tails.add(hostOffset);
  }

  return {
    tails,
    get hasExplicitZeros() {
      return hasExplicitZeros;
    },
    addTable(bytes, { index, offset }) {
      const range = l2TableRange(header, index);
      let guestOffset = range.guestOffset;
      const check = ({ kind, clusterCount, hostOffset, hostLength, hasZeros = kind === 'zero' }: ClusterRun): boolean => {
        hasExplicitZeros ||= hasZeros;
        const length = Math.min(hostLength ?? clusterCount * clusterSizeBytes, sizeBytes - guestOffset);
        if (kind === 'compressed') checkCompressed(hostOffset, hostLength ?? 0, { guestOffset, tableOffset: offset });
        else if (kind === 'data') requireInFile(image, { guestOffset, hostOffset, length, tableOffset: offset });
        guestOffset += clusterCount * clusterSizeBytes;
        return true;
      };
      parse({ bytes: bytes.subarray(0, range.usedBytes), offset, guestOffset }, image, check);
    },
  };
}
