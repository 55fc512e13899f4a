/** Reads the tables of an image in their order: neighbours in the file at once, with several reads in flight. */

import { KIB } from '../common/bytes.ts';

/** Fills the whole of `buffer` from `offset` of the file on. @throws DiskliftError */
export type ReadBytes = (buffer: Uint8Array, offset: number, signal: AbortSignal) => Promise<void>;

export interface TablesToRead {
  /** By index; 0 for an absent table. */
  offsets: Float64Array;
  tableSizeBytes: number;
  signal: AbortSignal;
}

export interface ReadTable {
  index: number;
  /** In the file. */
  offset: number;
  bytes: Uint8Array;
}

/** Parsing this many bytes takes about a millisecond, during which no other work of the process runs. */
const READ_SIZE_BYTES = 512 * KIB;

/** Random writes leave the tables of an image scattered; slow storage serves several reads at a time. */
const READS_IN_FLIGHT = 6;

interface Batch {
  offset: number;
  indexes: number[];
}

/** @returns the tables in order, batch by batch @throws DiskliftError as `read` */
export async function* readTables(read: ReadBytes, { offsets, tableSizeBytes, signal }: TablesToRead): AsyncGenerator<ReadTable[]> {
  const batches = batchesOf(offsets, tableSizeBytes);
  const ahead: { batch: Batch; bytes: Buffer; done: Promise<void> }[] = [];
  const readNext = () => {
    const next = batches.next();
    if (next.done) return;
    const bytes = Buffer.allocUnsafeSlow(next.value.indexes.length * tableSizeBytes);
    const done = read(bytes, next.value.offset, signal);
    // It is awaited later; until then a failure must not count as unhandled.
    done.catch(() => {});
    ahead.push({ batch: next.value, bytes, done });
  };
  try {
    for (let count = 0; count < READS_IN_FLIGHT; count += 1) readNext();
    for (let first = ahead[0]; first !== undefined; first = ahead[0]) {
      await first.done;
      ahead.shift();
      readNext();
      yield tablesOf(first.batch, first.bytes, tableSizeBytes);
    }
  } finally {
    // A caller that stops early may close the file, and another file may get its descriptor.
    await Promise.allSettled(ahead.map(({ done }) => done));
  }
}

function* batchesOf(offsets: Float64Array, tableSizeBytes: number): Generator<Batch> {
  let batch: Batch | undefined;
  for (let index = 0; index < offsets.length; index += 1) {
    const offset = offsets[index] as number;
    if (offset === 0) continue;
    const sizeBytes = (batch?.indexes.length ?? 0) * tableSizeBytes;
    if (batch?.offset === offset - sizeBytes && sizeBytes + tableSizeBytes <= READ_SIZE_BYTES) {
      batch.indexes.push(index);
      continue;
    }
    if (batch !== undefined) yield batch;
    batch = { offset, indexes: [index] };
  }
  if (batch !== undefined) yield batch;
}

function tablesOf({ offset, indexes }: Batch, bytes: Buffer, tableSizeBytes: number): ReadTable[] {
  return indexes.map((index, position) => {
    const at = position * tableSizeBytes;
    return { index, offset: offset + at, bytes: bytes.subarray(at, at + tableSizeBytes) };
  });
}
