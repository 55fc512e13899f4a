/** The L2 tables of the layers of a chain, read when they are needed and kept within one budget of bytes. */

import { abortable } from '../../common/abortable.ts';
import { MIB } from '../../common/bytes.ts';
import type { Qcow2Layer } from './open-chain.ts';

/** With clusters of 64 KiB, these tables map 256 GiB. */
const CACHE_BYTES = 32 * MIB;

/** Tables that are read ahead of a pass through the disk. */
const TABLES_AHEAD = 6;

export interface LayerTables {
  /** @param index in the L1 table, of a table that exists @throws DiskliftError as reading the file */
  get(layer: Qcow2Layer, index: number, signal: AbortSignal): Promise<Uint8Array>;
  /** Begins to read the next tables. */
  readAhead(layer: Qcow2Layer, index: number): void;
}

/** @param closed ends all reads */
export function createLayerTables(closed: AbortSignal): LayerTables {
  const layers = new Map<Qcow2Layer, Map<number, Promise<Uint8Array>>>();
  /** In the order of their last use. */
  const used = new Map<Promise<Uint8Array>, { tables: Map<number, Promise<Uint8Array>>; index: number; bytes: number }>();
  let heldBytes = 0;

  function drop(table: Promise<Uint8Array>): void {
    const place = used.get(table);
    if (place === undefined) return;
    used.delete(table);
    place.tables.delete(place.index);
    heldBytes -= place.bytes;
  }

  function load(layer: Qcow2Layer, index: number): Promise<Uint8Array> {
    let tables = layers.get(layer);
    if (tables === undefined) {
      tables = new Map();
      layers.set(layer, tables);
    }
    const known = tables.get(index);
    if (known !== undefined) {
      const place = used.get(known);
      used.delete(known);
      if (place !== undefined) used.set(known, place);
      return known;
    }
    const bytes = Buffer.allocUnsafeSlow(layer.image.header.clusterSizeBytes);
    const table: Promise<Uint8Array> = layer.file.read(bytes, layer.l2Offsets[index] as number, closed).then(() => bytes);
    // A failure is not kept, and counts only for a caller that waits.
    table.catch(() => drop(table));
    tables.set(index, table);
    used.set(table, { tables, index, bytes: bytes.length });
    heldBytes += bytes.length;
    for (const oldest of used.keys()) {
      if (heldBytes <= CACHE_BYTES || oldest === table) break;
      drop(oldest);
    }
    return table;
  }

  return {
    get: (layer, index, signal) => abortable(load(layer, index), signal),
    readAhead(layer, index) {
      const { l2Offsets } = layer;
      let count = 0;
      for (let next = index + 1; next < l2Offsets.length && count < TABLES_AHEAD; next += 1)
        if (l2Offsets[next] !== 0) {
          load(layer, next);
          count += 1;
        }
    },
  };
}
