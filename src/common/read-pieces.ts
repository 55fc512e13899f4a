/**
 * Reading many short pieces by few reads. A read costs about as much as copying 100 KiB, so short neighbours are read at once, together
 * with what lies between them.
 */

import { KIB, MIB } from './bytes.ts';
import { allocateIoBuffer } from './io-buffer.ts';

export interface Piece {
  /** What is read there. */
  offset: number;
  target: Uint8Array;
}

/** Fills `buffer` from `offset` on. After it has failed, `buffer` may still be written to. */
type Read = (buffer: Uint8Array, offset: number) => Promise<void>;

const MAX_PIECE_BYTES = 64 * KIB;
const MAX_GAP_BYTES = 32 * KIB;
const GROUP_BYTES = MIB;
/** Groups that are read at the same time: each needs a buffer of its own. */
const LANE_COUNT = 4;

/** Of all that read so, for the next ones. */
const idleBuffers: Buffer[] = [];
const MAX_IDLE_COUNT = 8;

interface Group {
  start: number;
  end: number;
  pieces: Piece[];
}

/** @param pieces in any order; only those that follow their predecessor closely are read together with it @throws as `read` does */
export async function readPieces(pieces: Iterable<Piece>, read: Read): Promise<void> {
  const reads: Promise<void>[] = [];
  const groups: Group[] = [];
  for (const { start, pieces: members } of groupsOf(pieces, groups)) for (const { target } of members) reads.push(read(target, start));
  const lanes = Array.from({ length: Math.min(LANE_COUNT, groups.length) }, async () => {
    try {
      for (let group = groups.pop(); group !== undefined; group = groups.pop()) await readGroup(group, read);
    } catch (error) {
      // Whoever is told of it may close the file.
      groups.length = 0;
      throw error;
    }
  });
  await Promise.all([...reads, ...lanes]);
}

/** @param several takes the groups of more than one piece @returns the others */
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
  // Where the read fails, the buffer is not used again.
  await read(buffer.subarray(0, end - start), start);
  for (const { offset, target } of pieces) buffer.copy(target, 0, offset - start, offset - start + target.length);
  if (idleBuffers.length < MAX_IDLE_COUNT) idleBuffers.push(buffer);
}
