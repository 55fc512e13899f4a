/** Finds where the bytes of a disk lie in the files of a chain. */

import { throwIfAborted } from '../../common/abortable.ts';
import { TABLE_ENTRY_SIZE_BYTES } from '../../qcow2/constants.ts';
import { corruptTable, cutShort, requireInFile, wholeSectors } from '../../qcow2/read/foreign-image.ts';
import { type ClusterRun, parseL2Table } from '../../qcow2/read/l2-table.ts';
import type { LayerTables } from './layer-tables.ts';
import type { Layer, Qcow2Layer } from './open-chain.ts';

/** Bytes of the disk that lie together, or are zeros. */
export type ChainRun = { offset: number; length: number } & (
  | { kind: 'zeros' }
  | { kind: 'data'; layer: Layer; hostOffset: number }
  /** Part of a compressed cluster, which begins at `clusterOffset` of the disk. */
  | { kind: 'compressed'; layer: Qcow2Layer; hostOffset: number; hostLength: number; clusterOffset: number }
);

export interface ChainMap {
  readonly sizeBytes: number;
  /**
   * @param start inclusive @param end exclusive
   * @returns runs in order and without a gap
   * @throws DiskliftError `SourceReadError` for wrong tables
   */
  runs(start: number, end: number, signal: AbortSignal): AsyncGenerator<ChainRun>;
}

/** Entries that are parsed in a row: less than a millisecond. */
const ENTRIES_IN_A_ROW = 4096;

export function createChainMap(layers: readonly Layer[], tables: LayerTables): ChainMap {
  async function* below(depth: number, start: number, end: number, signal: AbortSignal): AsyncGenerator<ChainRun> {
    const layer = layers[depth];
    const ownEnd = Math.max(start, Math.min(end, layer?.sizeBytes ?? 0));
    if (layer !== undefined && ownEnd > start) {
      if (layer.format === 'raw') yield { kind: 'data', layer, hostOffset: start, offset: start, length: ownEnd - start };
      else yield* inImage(layer, depth, { start, end: ownEnd }, signal);
    }
    if (ownEnd < end) yield { kind: 'zeros', offset: ownEnd, length: end - ownEnd };
  }

  async function* inImage(
    layer: Qcow2Layer,
    depth: number,
    { start, end }: { start: number; end: number },
    signal: AbortSignal,
  ): AsyncGenerator<ChainRun> {
    const { clusterSizeBytes } = layer.image.header;
    const tableBytes = clusterSizeBytes * (clusterSizeBytes / TABLE_ENTRY_SIZE_BYTES);
    for (let at = start; at < end; ) {
      throwIfAborted(signal);
      const index = Math.floor(at / tableBytes);
      const first = Math.floor((at % tableBytes) / clusterSizeBytes);
      const windowEnd = Math.min(end, (index + 1) * tableBytes, index * tableBytes + (first + ENTRIES_IN_A_ROW) * clusterSizeBytes);
      if (layer.l2Offsets[index] === 0) {
        yield* below(depth + 1, at, windowEnd, signal);
      } else {
        const bytes = await tables.get(layer, index, signal);
        tables.readAhead(layer, index);
        const last = Math.ceil((windowEnd - index * tableBytes) / clusterSizeBytes);
        for (const run of clipped(runsOf(layer, { index, bytes, first, last }), at, windowEnd)) {
          if (run.kind === 'unallocated') yield* below(depth + 1, run.offset, run.offset + run.length, signal);
          else yield run;
        }
      }
      at = windowEnd;
    }
  }

  return { sizeBytes: layers[0]?.sizeBytes ?? 0, runs: (start, end, signal) => below(0, start, end, signal) };
}

type OwnRun = ChainRun | { kind: 'unallocated'; offset: number; length: number };

interface TablePart {
  index: number;
  bytes: Uint8Array;
  first: number;
  last: number;
}

/** The runs of whole clusters of one layer. The last one may go beyond the disk. */
function runsOf(layer: Qcow2Layer, { index, bytes, first, last }: TablePart): OwnRun[] {
  const { image } = layer;
  const { clusterSizeBytes } = image.header;
  const guestOffset = index * clusterSizeBytes * (clusterSizeBytes / TABLE_ENTRY_SIZE_BYTES) + first * clusterSizeBytes;
  const tableOffset = (layer.l2Offsets[index] as number) + first * TABLE_ENTRY_SIZE_BYTES;
  const runs: OwnRun[] = [];
  let offset = guestOffset;
  const part = { bytes: bytes.subarray(first * TABLE_ENTRY_SIZE_BYTES, last * TABLE_ENTRY_SIZE_BYTES), offset: tableOffset, guestOffset };
  parseL2Table(part, image, (run) => {
    const length = run.clusterCount * clusterSizeBytes;
    runs.push(ownRun(layer, run, { offset, length, tableOffset }));
    offset += length;
    return true;
  });
  return runs;
}

function ownRun(
  layer: Qcow2Layer,
  { kind, hostOffset, hostLength = 0 }: ClusterRun,
  { offset, length, tableOffset }: { offset: number; length: number; tableOffset: number },
): OwnRun {
  const { image, metadata, sizeBytes } = layer;
  if (kind === 'unallocated') return { kind, offset, length };
  if (kind === 'zero') return { kind: 'zeros', offset, length };
  const hostEnd = hostOffset + (kind === 'compressed' ? hostLength : length);
  if (metadata.overlaps(hostOffset, hostEnd))
    throw corruptTable(image.name, tableOffset, `has ${offset} of the disk at ${hostOffset}, where a table is`);
  if (kind === 'compressed') {
    if (hostEnd > wholeSectors(image.fileSizeBytes) || hostOffset >= image.fileSizeBytes)
      throw cutShort(image, tableOffset, `has ${offset} of the disk, compressed, from ${hostOffset} to ${hostEnd}`);
    return {
      kind,
      layer,
      hostOffset,
      hostLength: Math.min(hostEnd, image.fileSizeBytes) - hostOffset,
      clusterOffset: offset,
      offset,
      length,
    };
  }
  // The disk's end may cut the last cluster.
  requireInFile(image, { guestOffset: offset, hostOffset, length: Math.min(length, sizeBytes - offset), tableOffset });
  return { kind, layer, hostOffset, offset, length };
}

function* clipped(runs: readonly OwnRun[], start: number, end: number): Generator<OwnRun> {
  for (const run of runs) {
    const [from, to] = [Math.max(start, run.offset), Math.min(end, run.offset + run.length)];
    if (to <= from) continue;
    const hostShift = run.kind === 'data' ? { hostOffset: run.hostOffset + (from - run.offset) } : {};
    yield { ...run, ...hostShift, offset: from, length: to - from } as OwnRun;
  }
}
