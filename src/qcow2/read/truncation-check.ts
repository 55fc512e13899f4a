/** Whether a file holds all that the L2 tables of its image point at; one that was cut short does not. Pure; fed table by table. */

import { type ClusterRun, parseL2Table } from '../write/l2-table.ts';
import { parseExtendedL2Table } from './extended-l2-table.ts';
import { cutShort, type ForeignImage, guestSizeBytes, l2TableSpan, requireInFile, wholeSectors } from './foreign-image.ts';

export interface EndCheck {
  /**
   * @param bytes the table of the L1 index `index`, one cluster
   * @param offset where it lies in the file
   * @throws DiskliftError `SourceReadError` that names the table's offset, and what lies behind the file's end
   */
  addTable(bytes: Uint8Array, { index, offset }: { index: number; offset: number }): void;
  /**
   * Where compressed clusters begin whose last sector the file has a part of. They are whole if that part is all of them, which only
   * their bytes tell.
   */
  readonly tails: ReadonlySet<number>;
  /** Whether a table so far has a zero flag, of a cluster or of a subcluster. */
  readonly hasExplicitZeros: boolean;
}

/** So many may begin within a sector, and one in front of it: no cluster is made of less than a byte. */
const MAX_TAIL_COUNT = 513;

export function createEndCheck(image: ForeignImage): EndCheck {
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
      const span = l2TableSpan(header, index);
      let guestOffset = span.guestOffset;
      const check = ({ kind, clusterCount, hostOffset, hostLength, hasZeros = kind === 'zero' }: ClusterRun): boolean => {
        hasExplicitZeros ||= hasZeros;
        const length = Math.min(hostLength ?? clusterCount * clusterSizeBytes, sizeBytes - guestOffset);
        if (kind === 'compressed') checkCompressed(hostOffset, hostLength ?? 0, { guestOffset, tableOffset: offset });
        else if (kind === 'data') requireInFile(image, { guestOffset, hostOffset, length, tableOffset: offset });
        guestOffset += clusterCount * clusterSizeBytes;
        return true;
      };
      parse({ bytes: bytes.subarray(0, span.usedBytes), offset, guestOffset }, image, check);
    },
  };
}
