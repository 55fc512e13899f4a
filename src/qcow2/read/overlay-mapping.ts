/** From the L2 tables of one image to where its disk lies, over what lies behind it. Pure; fed table by table. */

import { type ClusterRun, parseL2Table } from '../write/l2-table.ts';
import { corruptTable, type ForeignImage, guestSizeBytes, l2TableSpan, requireInFile } from './foreign-image.ts';
import { createGuestMappingBuilder, type GuestMapping } from './guest-mapping.ts';
import type { MetadataPlaces } from './metadata-places.ts';

export interface Layer {
  image: ForeignImage;
  metadata: MetadataPlaces;
  /** The number of the file that its data is in. */
  dataFile: number;
  /** What is read where the image has nothing of its own, up to its end; zeros behind that, and where it is left out. */
  backing?: GuestMapping | undefined;
}

export interface OverlayBuilder {
  /**
   * Takes the table of the L1 index `index`; those in front of it that were not given are not there.
   * @param bytes one cluster
   * @param offset where it lies in the file
   * @returns false where the disk does not lie plain in its files: a cluster is compressed, or there are too many ranges
   * @throws DiskliftError `SourceReadError` that names the table's offset
   */
  addTable(bytes: Uint8Array, { index, offset }: { index: number; offset: number }): boolean;
  build(): GuestMapping;
  /** Whether a table so far has a cluster with the zero flag. */
  readonly hasExplicitZeros: boolean;
}

/** 72 MiB of columns. A disk in more pieces is left to who keeps no map of it. */
export const MAX_RANGE_COUNT = 2 ** 22;

export function createOverlayBuilder({ image, metadata, dataFile, backing }: Layer): OverlayBuilder {
  const { name, header, fileSizeBytes, dataFileSizeBytes } = image;
  const { clusterSizeBytes } = header;
  const sizeBytes = guestSizeBytes(header);
  const hostSizeBytes = dataFileSizeBytes ?? fileSizeBytes;
  const builder = createGuestMappingBuilder();

  function appendBacking(length: number): void {
    const start = builder.sizeBytes;
    const backed = Math.max(0, Math.min(length, (backing?.sizeBytes ?? 0) - start));
    if (backing !== undefined && backed > 0)
      for (const range of backing.ranges(start, start + backed)) builder.append(range.length, range.place);
    builder.append(length - backed, undefined);
  }

  function appendData(hostOffset: number, length: number, tableOffset: number): void {
    const guestOffset = builder.sizeBytes;
    requireInFile(image, { guestOffset, hostOffset, length, tableOffset });
    if (dataFileSizeBytes === undefined && metadata.overlaps(hostOffset, hostOffset + length))
      throw corruptTable(name, tableOffset, `has ${guestOffset} of the disk at ${hostOffset}, where a table is`);
    const inFile = Math.min(length, hostSizeBytes - hostOffset);
    builder.append(inFile, { file: dataFile, offset: hostOffset });
    builder.append(length - inFile, undefined);
  }

  let hasExplicitZeros = false;

  function appendRun({ kind, clusterCount, hostOffset }: ClusterRun, tableOffset: number): boolean {
    if (kind === 'compressed') return false;
    hasExplicitZeros ||= kind === 'zero';
    // The disk's end may cut the last cluster.
    const length = Math.min(clusterCount * clusterSizeBytes, sizeBytes - builder.sizeBytes);
    if (kind === 'data') appendData(hostOffset, length, tableOffset);
    else if (kind === 'zero') builder.append(length, undefined);
    else appendBacking(length);
    return true;
  }

  return {
    get hasExplicitZeros() {
      return hasExplicitZeros;
    },
    addTable(bytes, { index, offset }) {
      const { guestOffset, usedBytes } = l2TableSpan(header, index);
      appendBacking(guestOffset - builder.sizeBytes);
      const table = { bytes: bytes.subarray(0, usedBytes), offset, guestOffset };
      return parseL2Table(table, image, (run) => appendRun(run, offset)) && builder.rangeCount <= MAX_RANGE_COUNT;
    },
    build() {
      appendBacking(sizeBytes - builder.sizeBytes);
      return builder.build();
    },
  };
}

/** A raw file: itself, to its end. */
export function rawMapping(file: number, fileSizeBytes: number): GuestMapping {
  const builder = createGuestMappingBuilder();
  builder.append(fileSizeBytes, { file, offset: 0 });
  return builder.build();
}
