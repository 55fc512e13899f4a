/** A disk on an NBD server. */

import { throwIfAborted } from '../../common/abortable.ts';
import { alignDown, alignUp } from '../../common/bytes.ts';
import type { Clock } from '../../common/clock.ts';
import { DiskliftError } from '../../common/errors.ts';
import type { ChangedBlocks, TrackedSource } from '../changed/contract.ts';
import { digestOfChanges } from '../changed/digest.ts';
import { wholeMap } from '../changed/whole-map.ts';
import type { SourceExtent } from '../contract.ts';
import { ExtentJoiner } from '../file-extents.ts';
import { dirtyExtents } from './dirty-extents.ts';
import { shakeHands } from './handshake.ts';
import { NbdClient } from './nbd-client.ts';
import { type NbdAddress, nbdDiskName } from './nbd-uri.ts';
import type { Agreement, MetadataContexts } from './negotiation.ts';
import { MAX_BLOCK_SIZE_BYTES, STATE_ZERO } from './protocol.ts';
import { statusExtents } from './status-extents.ts';

export interface NbdLimits {
  /** Limit of connecting and of the handshake together. */
  connectMs: number;
  /** Limit of its silence while it owes an answer: the storage behind it may recover slowly. */
  silenceMs: number;
  /** Limit of one whole answer of at most 32 MiB, even if its bytes keep coming. */
  answerMs: number;
}

export interface OpenNbdDiskOptions {
  clock: Clock;
  /** Aborts the opening only. */
  signal: AbortSignal;
  limits?: Partial<NbdLimits> | undefined;
  /** The name of the disk in messages; its URI when left out. */
  name?: string | undefined;
  /** The dirty bitmap that shows what has changed. The server must report it, and it must not change any more. */
  bitmap?: string | undefined;
}

/** Requests of one read at a time, where the server's limit is below the read's length. */
const PIECES_IN_FLIGHT = 4;

const DEFAULT_LIMITS: NbdLimits = { connectMs: 10_000, silenceMs: 60_000, answerMs: 600_000 };

/**
 * Connects to a server and opens one of its disks.
 * @throws DiskliftError `SourceNotFound`, `SourcePermissionDenied`, `SourceReadError`, `ImageTooLarge`, `Cancelled`
 */
export async function openNbdDisk(address: NbdAddress, options: OpenNbdDiskOptions): Promise<TrackedSource> {
  const { clock, signal, name = nbdDiskName(address), bitmap } = options;
  const { connectMs, silenceMs, answerMs } = { ...DEFAULT_LIMITS, ...options.limits };
  const agreed = await shakeHands(address, { name, clock, signal, connectMs, bitmap });
  const { agreement } = agreed;
  const { sizeBytes, contexts } = agreement;
  const client = new NbdClient(agreed, { name, clock, silenceMs, answerMs });
  const changed = bitmap === undefined ? undefined : createChanges({ client, name, sizeBytes, contexts });
  const closed = new AbortController();
  return {
    name,
    sizeBytes,
    changed,
    extents: (signal) => blockStatusExtents({ client, name, sizeBytes, contexts, signal }),
    async read(buffer, offset, signal) {
      throwIfAborted(signal);
      const end = offset + buffer.length;
      if (end > sizeBytes) throw new DiskliftError('SourceChanged', `${name}: ends at offset ${sizeBytes}, before ${end}`);
      await readPieces(client, { buffer, offset, pieces: piecesOf(offset, end, agreement) }, signal);
    },
    identity: async () => ({
      export: address.exportName,
      size: `${sizeBytes}`,
      ...(changed === undefined ? {} : { bitmap: `${bitmap}`, changes: await digestOfChanges(changed.extents(closed.signal)) }),
    }),
    identityMissesWrites: true,
    async dispose() {
      closed.abort(new DiskliftError('Cancelled', 'closed'));
      await client.close();
    },
  };
}

/** Without block status, the whole disk counts as data. */
async function* wholeDisk(sizeBytes: number, signal: AbortSignal): AsyncGenerator<SourceExtent> {
  throwIfAborted(signal);
  if (sizeBytes > 0) yield { offset: 0, length: sizeBytes, kind: 'data' };
}

interface Piece {
  start: number;
  end: number;
}

/**
 * The requests that read from `start` to `end`: whole blocks, except at the disk's end, and none above the limit. A
 * block that is needed in part is a piece by itself, so that few bytes are read in vain and copied.
 */
function* piecesOf(start: number, end: number, { sizeBytes, blockSizeBytes, maxReadBytes }: Agreement): Generator<Piece> {
  const lastEnd = Math.min(alignUp(end, blockSizeBytes), sizeBytes);
  const wholeEnd = alignDown(end, blockSizeBytes);
  for (let at = alignDown(start, blockSizeBytes); at < lastEnd; ) {
    const limit = at < wholeEnd && end < lastEnd ? wholeEnd : lastEnd;
    const pieceEnd = Math.min(at + (at < start ? blockSizeBytes : maxReadBytes), limit);
    yield { start: at, end: pieceEnd };
    at = pieceEnd;
  }
}

interface Destination {
  buffer: Uint8Array;
  /** Offset of the buffer's first byte on the disk. */
  offset: number;
}

/**
 * Reads several pieces at a time. After a failure no further piece starts, and the error is thrown when all have ended.
 */
async function readPieces(client: NbdClient, wanted: Destination & { pieces: Iterable<Piece> }, signal: AbortSignal): Promise<void> {
  const work = async () => {
    // All workers share one iterator, which an error closes.
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

interface Questions {
  client: Pick<NbdClient, 'blockStatus'>;
  name: string;
  sizeBytes: number;
  contexts: MetadataContexts;
}

/** Fits into 32 bits, in steps that suit every server. */
const MAX_QUERY_BYTES = alignDown(2 ** 32 - 1, MAX_BLOCK_SIZE_BYTES);

/** Asks the server for the extents (base:allocation). @throws DiskliftError `SourceReadError`, `Cancelled` */
async function* blockStatusExtents(questions: Questions & { signal: AbortSignal }): AsyncGenerator<SourceExtent> {
  const { client, name, sizeBytes, contexts, signal } = questions;
  if (contexts.allocation === undefined) {
    yield* wholeDisk(sizeBytes, signal);
    return;
  }
  const joiner = new ExtentJoiner();
  for (let at = 0; at < sizeBytes; ) {
    throwIfAborted(signal);
    const length = Math.min(sizeBytes - at, MAX_QUERY_BYTES);
    const statuses = await client.blockStatus({ offset: at, length, contexts: Object.values(contexts), wanted: 'are zeros' }, signal);
    const descriptors = statuses.get(contexts.allocation) ?? Buffer.alloc(0);
    for (const extent of statusExtents(descriptors, { name, start: at, end: at + length, sizeBytes, wanted: 'are zeros' })) {
      at = extent.offset + extent.length;
      const isZeros = (extent.flags & STATE_ZERO) !== 0;
      const complete = joiner.push({ offset: extent.offset, length: extent.length, kind: isZeros ? 'zeros' : 'data' });
      if (complete !== undefined) yield complete;
    }
  }
  const last = joiner.end();
  if (last !== undefined) yield last;
}

function createChanges({ client, name, sizeBytes, contexts }: Questions): ChangedBlocks {
  return {
    extents: (signal) =>
      wholeMap({
        name,
        sizeBytes,
        sliceBytes: MAX_QUERY_BYTES,
        async ask(offset, length) {
          const statuses = await client.blockStatus({ offset, length, contexts: Object.values(contexts), wanted: 'have changed' }, signal);
          return dirtyExtents(statuses, contexts, { name, start: offset, end: offset + length, sizeBytes, wanted: 'have changed' });
        },
        signal,
      }),
  };
}
