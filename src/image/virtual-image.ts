/** The virtual image: metadata computed when asked for, data read from the source. */

import { MIB } from '../common/bytes.ts';
import { allocateIoBuffer } from '../common/io-buffer.ts';
import { type Piece, readPieces } from '../common/read-pieces.ts';
import type { Layout } from '../qcow2/write/layout.ts';
import type { DiskSource, SourceIdentity } from '../sources/contract.ts';
import type { StreamRange, VirtualImage } from './contract.ts';
import { fingerprintOf } from './fingerprint.ts';
import { placedRuns } from './placed-runs.ts';

export interface VirtualImageInput {
  /** Clusters of data are all that is read of it. */
  source: Pick<DiskSource, 'read' | 'fileExtents'>;
  layout: Layout;
  /** Taken before the scan that made the layout. */
  identity: SourceIdentity;
}

/** Long enough that a write or a request costs little per byte, short enough that four streams fit a small budget. */
const CHUNK_SIZE_BYTES = MIB;

/** Chunks that are being read while one is with the consumer. */
const CHUNKS_AHEAD = 4;

export function createVirtualImage({ source, layout, identity }: VirtualImageInput): VirtualImage {
  // Bound, because the source may be a class instance.
  const places = source.fileExtents?.bind(source);
  let fingerprint: string | undefined;

  async function read(buffer: Uint8Array, offset: number, signal: AbortSignal): Promise<void> {
    const end = offset + buffer.length;
    if (offset < 0 || end > layout.imageSizeBytes) throw new RangeError(`bytes ${offset}..${end} are not in the image`);
    const pieces: Piece[] = [];
    for (const run of layout.runs(offset, end)) {
      const target = buffer.subarray(run.imageOffset - offset, run.imageOffset - offset + run.length);
      if (run.kind === 'data') pieces.push({ target, offset: run.sourceOffset });
      else if (run.kind === 'zeros') target.fill(0);
      else layout.renderMetadata(target, run.imageOffset);
    }
    await readPieces(pieces, (target, at) => source.read(target, at, signal));
  }

  async function* stream({ start = 0, end = layout.imageSizeBytes, signal }: StreamRange): AsyncGenerator<Uint8Array> {
    const idleBuffers: Buffer[] = [];
    const ahead: { chunk: Buffer; buffer: Buffer; done: Promise<void> }[] = [];
    let next = start;
    for (let at = start; at < end; ) {
      while (next < end && ahead.length <= CHUNKS_AHEAD) {
        const buffer = idleBuffers.pop() ?? allocateIoBuffer(CHUNK_SIZE_BYTES);
        const chunk = buffer.subarray(0, Math.min(CHUNK_SIZE_BYTES, end - next));
        const done = read(chunk, next, signal);
        // Its turn to be awaited comes later; until then a failure is not unhandled.
        done.catch(() => {});
        ahead.push({ chunk, buffer, done });
        next += chunk.length;
      }
      const { chunk, buffer, done } = ahead.shift() as (typeof ahead)[number];
      await done;
      yield chunk;
      idleBuffers.push(buffer);
      at += chunk.length;
    }
  }

  return {
    sizeBytes: layout.imageSizeBytes,
    virtualSizeBytes: layout.virtualSizeBytes,
    clusterSizeBytes: layout.options.clusterSizeBytes,
    get fingerprint() {
      fingerprint ??= fingerprintOf(layout, identity);
      return fingerprint;
    },
    read,
    stream,
    ...(places === undefined ? {} : { placedRuns: (start, end) => placedRuns({ layout, places }, start, end) }),
  };
}
