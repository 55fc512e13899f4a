/**
 * Reads many short pieces by few reads. A read costs about as much as copying 100 KiB, so one read covers short
 * neighbours and the bytes between them.
 */

import { allocateIoBuffer } from './buffers.ts';
import { KIB, MIB } from './bytes.ts';

export interface Piece {
  /** Byte offset in the file. */
  offset: number;
  target: Uint8Array;
}

/** Fills `buffer` from `offset` on. After a failure the kernel may still write to `buffer`. */
type Read = (buffer: Uint8Array, offset: number) => Promise<void>;

const MAX_PIECE_BYTES = 64 * KIB;
const MAX_GAP_BYTES = 32 * KIB;
const GROUP_BYTES = MIB;
/** Number of groups read at the same time; each needs its own buffer. */
const LANE_COUNT = 4;

/** Buffers of finished calls of {@link readPieces}, for later calls. */
const idleBuffers: Buffer[] = [];
const MAX_IDLE_COUNT = 8;

interface Group {
  start: number;
  end: number;
  pieces: Piece[];
}

/**
 * @param pieces in any order; only those that follow their predecessor closely are read together with it
 * @throws as `read` does
 */
export async function readPieces(pieces: Iterable<Piece>, read: Read): Promise<void> {
  let failure: { cause: unknown } | undefined;
  const fail = (cause: unknown) => {
    failure ??= { cause };
    throw cause;
  };
  // The caller may close the file after the first failure, so no further read starts.
  const readUntilFailure: Read = async (buffer, offset) => {
    if (failure !== undefined) throw failure.cause;
    await read(buffer, offset);
  };
  const groups: Group[] = [];
  const reads: Promise<void>[] = [];
  for (const { start, pieces: members } of groupsOf(pieces, groups))
    for (const { target } of members) reads.push(read(target, start).catch(fail));
  const lanes = Array.from({ length: Math.min(LANE_COUNT, groups.length) }, async () => {
    for (let group = groups.pop(); group !== undefined; group = groups.pop()) await readGroup(group, readUntilFailure).catch(fail);
  });
  await Promise.all([...reads, ...lanes]);
}

/** @param several receives the groups of more than one piece @returns the groups of one piece */
function groupsOf(pieces: Iterable<Piece>, several: Group[]): Group[] {
  const single: Group[] = [];
  let last: Group | undefined;
  const put = () => {
    if (last !== undefined) (last.pieces.length > 1 ? several : single).push(last);
  };
  for (const piece of pieces) {
    const end = piece.offset + piece.target.length;
    if (last !== undefined && joins(last, piece, end)) {
      last.pieces.push(piece);
      last.end = end;
      continue;
    }
    put();
    last = { start: piece.offset, end, pieces: [piece] };
  }
  put();
  return single;
}

function joins({ start, end, pieces }: Group, { offset, target }: Piece, pieceEnd: number): boolean {
  const gap = offset - end;
  const isShort = target.length <= MAX_PIECE_BYTES && (pieces[0] as Piece).target.length <= MAX_PIECE_BYTES;
  return isShort && gap >= 0 && gap <= MAX_GAP_BYTES && pieceEnd - start <= GROUP_BYTES;
}

async function readGroup({ start, end, pieces }: Group, read: Read): Promise<void> {
  const buffer = idleBuffers.pop() ?? allocateIoBuffer(GROUP_BYTES);
  try {
    await read(buffer.subarray(0, end - start), start);
  } catch {
    // An unreadable sector between the pieces concerns no piece. The buffer is not used again, because its read has
    // failed.
    for (const { offset, target } of pieces) await read(target, offset);
    return;
  }
  for (const { offset, target } of pieces) buffer.copy(target, 0, offset - start, offset - start + target.length);
  if (idleBuffers.length < MAX_IDLE_COUNT) idleBuffers.push(buffer);
}
