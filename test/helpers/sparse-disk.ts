/** Raw disks with chosen holes, zeros and data. */

import { randomBytes } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';

export interface DiskPart {
  offsetBytes: number;
  lengthBytes: number;
  /** 'zeros' are written, so the file system allocates them. Bytes outside of all parts are a hole. */
  content: 'random' | 'zeros';
}

const PIECE_BYTES = 4 * 1024 * 1024;

async function writePart(file: FileHandle, part: DiskPart): Promise<void> {
  for (let done = 0; done < part.lengthBytes; done += PIECE_BYTES) {
    const length = Math.min(PIECE_BYTES, part.lengthBytes - done);
    const piece = part.content === 'zeros' ? Buffer.alloc(length) : randomBytes(length);
    // Random data must not begin or end with the zeros that a test looks for.
    if (part.content === 'random') piece[0] = piece[length - 1] = 0xa5;
    await file.write(piece, 0, length, part.offsetBytes + done);
  }
}

export async function createDisk(path: string, sizeBytes: number, parts: readonly DiskPart[] = []): Promise<string> {
  const file = await open(path, 'w');
  try {
    await file.truncate(sizeBytes);
    for (const part of parts) await writePart(file, part);
    // Delayed allocation would show written zeros as a hole on some file systems.
    await file.sync();
  } finally {
    await file.close();
  }
  return path;
}
