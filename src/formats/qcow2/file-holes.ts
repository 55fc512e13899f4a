/** The holes of a file, for who looks at it piece by piece and not in order. */

import { MIB } from '../../common/bytes.ts';
import type { Libc } from '../../native/libc.ts';
import { nextDataStretch } from '../../native/seek-data.ts';
import { readError } from '../../sources/read-exactly.ts';

interface FilePiece {
  length: number;
  isHole: boolean;
}

export interface FileHoles {
  /** What `length` bytes from `offset` on are made of, in order. @throws DiskliftError `SourceReadError` */
  piecesOf(offset: number, length: number): Promise<FilePiece[]>;
}

export interface FileToAsk {
  libc: Libc | undefined;
  fd: number;
  name: string;
}

/** To ask takes as long as to read some hundred KiB, so what is shorter counts as data unless the last answer covers it. */
const SHORTEST_ASKED_BYTES = MIB;

export function createFileHoles({ libc, fd, name }: FileToAsk): FileHoles {
  /** From `start` on a hole, from `dataStart` on data, and from `end` on not known. */
  let known = { start: 0, dataStart: 0, end: libc === undefined ? Number.POSITIVE_INFINITY : 0 };

  async function ask(offset: number): Promise<void> {
    if (libc === undefined) return;
    try {
      const stretch = await nextDataStretch(libc, fd, offset);
      if (stretch === 'unsupported') known = { start: 0, dataStart: 0, end: Number.POSITIVE_INFINITY };
      else if (stretch === 'none') known = { start: offset, dataStart: Number.POSITIVE_INFINITY, end: Number.POSITIVE_INFINITY };
      else known = { start: offset, dataStart: stretch.start, end: stretch.end };
    } catch (error) {
      throw readError(name, offset, error);
    }
  }

  return {
    async piecesOf(offset, length) {
      const pieces: FilePiece[] = [];
      const end = offset + length;
      for (let at = offset; at < end; ) {
        const isKnown = () => at >= known.start && at < known.end;
        if (!isKnown() && end - at >= SHORTEST_ASKED_BYTES) await ask(at);
        const isHole = isKnown() && at < known.dataStart;
        const to = isKnown() ? Math.min(end, isHole ? known.dataStart : known.end) : end;
        pieces.push({ length: to - at, isHole });
        at = to;
      }
      return pieces;
    },
  };
}
