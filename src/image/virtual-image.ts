/** The virtual image: metadata computed on demand, data read from the source. */

import type { Hash } from 'node:crypto';
import { allocateIoBuffer } from '../common/buffers.ts';
import { MIB } from '../common/bytes.ts';
import { type Piece, readPieces } from '../common/read-pieces.ts';
import type { AllocationMap, ClusterKind } from '../qcow2/write/allocation-map.ts';
import { needsEntry } from '../qcow2/write/geometry.ts';
import type { Layout } from '../qcow2/write/layout.ts';
import type { DiskSource, SourceIdentity } from '../sources/contract.ts';
import type { ImageFileExtent, StreamRange, VirtualImage } from './contract.ts';
import type { ScanRange } from './scan-queue.ts';

export interface VirtualImageInput {
  /** Only its clusters of data are read. */
  source: Pick<DiskSource, 'read' | 'fileExtents'>;
  layout: Layout;
  /** Taken before the scan that made the layout. */
  identity: SourceIdentity;
}

/** Long enough that a write or a request costs little per byte, short enough that four streams fit a small budget. */
const CHUNK_SIZE_BYTES = MIB;

/** Chunks that are read while the consumer has one. */
const CHUNKS_AHEAD = 4;

export function createVirtualImage({ source, layout, identity }: VirtualImageInput): VirtualImage {
  // Bound, because the source may be a class instance.
  const extentsOfSource = source.fileExtents?.bind(source);
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
        // The loop awaits it later; until then a failure is not unhandled.
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
    ...(extentsOfSource === undefined ? {} : { fileExtents: (start, end) => fileExtents({ layout, extentsOfSource }, start, end) }),
  };
}

export interface FileExtentsInput {
  layout: Layout;
  extentsOfSource: NonNullable<DiskSource['fileExtents']>;
}

/**
 * Merges neighbours. In a file that is a qcow2 image itself, clusters may be neighbours that lie apart on the disk.
 */
export function* fileExtents({ layout, extentsOfSource }: FileExtentsInput, start: number, end: number): Generator<ImageFileExtent> {
  let last: ImageFileExtent | undefined;
  for (const run of layout.runs(start, end)) {
    if (run.kind !== 'data') continue;
    for (const { offset, length, fd, fileOffset } of extentsOfSource(run.sourceOffset, run.length)) {
      const next = { imageOffset: run.imageOffset + (offset - run.sourceOffset), length, fd, fileOffset };
      if (last !== undefined && follows(last, next)) {
        last.length += length;
        continue;
      }
      if (last !== undefined) yield last;
      last = next;
    }
  }
  if (last !== undefined) yield last;
}

function follows(last: ImageFileExtent, next: ImageFileExtent): boolean {
  return next.fd === last.fd && next.imageOffset === last.imageOffset + last.length && next.fileOffset === last.fileOffset + last.length;
}

/** Number of ranges that are hashed at a time. */
const BATCH = 4096;

/** SHA-256, in hex, of the options, the identity, every range of data, and what a delta leaves to its base. */
export function fingerprintOf(layout: Layout, identity: SourceIdentity): string {
  // Loaded when it is needed: a command that resumes nothing starts sooner without it.
  const hash = process.getBuiltinModule('node:crypto').createHash('sha256');
  const facts = Object.entries(identity).sort(([a], [b]) => (a < b ? -1 : 1));
  const { clusterSizeBytes, refcountBits, version, dataFile } = layout.options;
  hash.update(JSON.stringify([clusterSizeBytes, refcountBits, version, dataFile?.path, dataFile?.raw, layout.map.diskSizeBytes, facts]));
  // This comes last, so that the fingerprints of converted images do not change between versions.
  if (layout.isVerbatim) hash.update('verbatim');
  hashRanges(hash, layout, (kind) => kind === 'data');
  if (layout.options.backingFile !== undefined) {
    const { name, format } = layout.options.backingFile;
    hash.update(JSON.stringify(['base', name, format]));
    hashRanges(hash, layout, (kind) => needsEntry(kind, layout.options));
  }
  return hash.digest('hex');
}

function hashRanges(hash: Hash, { map }: Layout, wanted: (kind: ClusterKind) => boolean): void {
  const batch = Buffer.alloc(BATCH * 16);
  let used = 0;
  for (const { firstCluster, clusterCount } of joinedRanges(map, wanted)) {
    used = batch.writeDoubleBE(firstCluster, used);
    used = batch.writeDoubleBE(clusterCount, used);
    if (used < batch.length) continue;
    hash.update(batch);
    used = 0;
  }
  hash.update(batch.subarray(0, used));
}

/** Zeros that were read and zeros that the source reports are the same in an image. */
function* joinedRanges(map: AllocationMap, wanted: (kind: ClusterKind) => boolean): Generator<ScanRange> {
  let joined: ScanRange | undefined;
  for (const { kind, firstCluster, clusterCount } of map.ranges()) {
    if (!wanted(kind)) continue;
    if (joined !== undefined && joined.firstCluster + joined.clusterCount === firstCluster) joined.clusterCount += clusterCount;
    else {
      if (joined !== undefined) yield joined;
      joined = { firstCluster, clusterCount };
    }
  }
  if (joined !== undefined) yield joined;
}
