/** A disk that an NBD server has. */

import { throwIfAborted } from '../../common/abortable.ts';
import { alignDown, alignUp } from '../../common/bytes.ts';
import type { Clock } from '../../common/clock.ts';
import { DiskliftError } from '../../common/errors.ts';
import type { DiskSource, SourceExtent } from '../contract.ts';
import { blockStatusExtents } from './block-status.ts';
import { shakeHands } from './handshake.ts';
import { NbdClient } from './nbd-client.ts';
import { type NbdAddress, nbdDiskName } from './nbd-uri.ts';
import type { Agreement } from './negotiate.ts';

export interface NbdLimits {
  /** Until the server has agreed to serve the disk. */
  connectMs: number;
  /** How long it may be silent while it owes an answer: storage behind it may be slow to come back. */
  silenceMs: number;
  /** Limit of one answer in all, which is at most 32 MiB, however steadily its bytes come. */
  answerMs: number;
}

export interface OpenNbdDiskOptions {
  clock: Clock;
  /** For opening alone. */
  signal: AbortSignal;
  limits?: Partial<NbdLimits> | undefined;
  /** What messages call the disk by; its URI when left out. */
  name?: string | undefined;
}

/** Of one read, where the server takes less at once than a read asks for. */
const PIECES_IN_FLIGHT = 4;

const DEFAULT_LIMITS: NbdLimits = { connectMs: 10_000, silenceMs: 60_000, answerMs: 600_000 };

/**
 * Connects to a server and opens one of its disks.
 * @throws DiskliftError `SourceNotFound`, `SourcePermissionDenied`, `SourceReadError`, `ImageTooLarge`, `Cancelled`
 */
export async function openNbdDisk(address: NbdAddress, options: OpenNbdDiskOptions): Promise<DiskSource> {
  const { clock, signal, name = nbdDiskName(address) } = options;
  const { connectMs, silenceMs, answerMs } = { ...DEFAULT_LIMITS, ...options.limits };
  const agreed = await shakeHands(address, { name, clock, signal, connectMs });
  const { agreement } = agreed;
  const { sizeBytes, allocationContext: context } = agreement;
  const client = new NbdClient(agreed, { name, clock, silenceMs, answerMs });
  return {
    name,
    sizeBytes,
    extents: (signal) =>
      context === undefined ? wholeDisk(sizeBytes, signal) : blockStatusExtents({ client, name, sizeBytes, context, signal }),
    async read(buffer, offset, signal) {
      throwIfAborted(signal);
      const end = offset + buffer.length;
      if (end > sizeBytes) throw new DiskliftError('SourceChanged', `${name}: ends at offset ${sizeBytes}, before ${end}`);
      await readPieces(client, { buffer, offset, pieces: piecesOf(offset, end, agreement) }, signal);
    },
    identity: async () => ({ export: address.exportName, size: `${sizeBytes}` }),
    identityMissesWrites: true,
    dispose: () => client.close(),
  };
}

/** What a server does not tell of is all data. */
async function* wholeDisk(sizeBytes: number, signal: AbortSignal): AsyncGenerator<SourceExtent> {
  throwIfAborted(signal);
  if (sizeBytes > 0) yield { offset: 0, length: sizeBytes, kind: 'data' };
}

interface Piece {
  start: number;
  end: number;
}

/**
 * The requests that read from `start` to `end`: whole blocks, but for the disk's end, and none too large. A block that is
 * wanted in part is a piece by itself, so that little is read in vain and copied.
 */
function* piecesOf(start: number, end: number, { sizeBytes, blockSizeBytes, largestReadBytes }: Agreement): Generator<Piece> {
  const lastEnd = Math.min(alignUp(end, blockSizeBytes), sizeBytes);
  const wholeEnd = alignDown(end, blockSizeBytes);
  for (let at = alignDown(start, blockSizeBytes); at < lastEnd; ) {
    const limit = at < wholeEnd && end < lastEnd ? wholeEnd : lastEnd;
    const pieceEnd = Math.min(at + (at < start ? blockSizeBytes : largestReadBytes), limit);
    yield { start: at, end: pieceEnd };
    at = pieceEnd;
  }
}

interface Destination {
  buffer: Uint8Array;
  /** Of the buffer's first byte. */
  offset: number;
}

/** Several at a time. When one fails no more are begun, and all have ended when the error is thrown. */
async function readPieces(client: NbdClient, wanted: Destination & { pieces: Iterable<Piece> }, signal: AbortSignal): Promise<void> {
  const work = async () => {
    // All take from one iterator, which an error closes.
    for (const piece of wanted.pieces) await readPiece(client, { ...wanted, piece }, signal);
  };
  const results = await Promise.allSettled(Array.from({ length: PIECES_IN_FLIGHT }, work));
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}

async function readPiece(client: NbdClient, { buffer, offset, piece }: Destination & { piece: Piece }, signal: AbortSignal): Promise<void> {
  const { start, end } = piece;
  if (start >= offset && end <= offset + buffer.length) {
    await client.read(buffer.subarray(start - offset, end - offset), start, signal);
    return;
  }
  const blocks = Buffer.allocUnsafe(end - start);
  await client.read(blocks, start, signal);
  const from = Math.max(start, offset);
  buffer.set(blocks.subarray(from - start, Math.min(end, offset + buffer.length) - start), from - offset);
}
