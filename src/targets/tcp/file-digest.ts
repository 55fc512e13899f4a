/**
 * The SHA-256 of a file that grows: of the bytes as they arrive, and of the bytes that an earlier try left in the file.
 */

import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { allocateIoBuffer } from '../../common/buffers.ts';
import { MIB } from '../../common/bytes.ts';

const READ_BYTES = MIB;

export class FileDigest {
  private readonly file: FileHandle;
  private readonly hash = createHash('sha256');
  private hashedBytes = 0;
  /** Number of bytes that are certainly in the file. */
  private writtenBytes: number;
  private following: Promise<void> = Promise.resolve();

  /** @param writtenBytes number of bytes that the file holds; they are read in the background */
  constructor(file: FileHandle, writtenBytes: number) {
    this.file = file;
    this.writtenBytes = writtenBytes;
    if (writtenBytes > 0) this.follow();
  }

  /** Hashes the next bytes while they are written. `written` resolves when they are in the file. One call at a time. */
  async add(bytes: Uint8Array, written: Promise<void>): Promise<void> {
    const isTheirTurn = this.hashedBytes === this.writtenBytes;
    if (isTheirTurn) {
      this.hash.update(bytes);
      this.hashedBytes += bytes.length;
    }
    await written;
    this.writtenBytes += bytes.length;
    // The catch-up read may have finished during this write. Start it again, or these bytes are never hashed.
    if (!isTheirTurn) this.follow();
  }

  /** @returns the digest of the whole file in hex; call this once @throws the failures of reading the file */
  async finish(): Promise<string> {
    await this.following;
    return this.hash.digest('hex');
  }

  private follow(): void {
    this.following = this.following.then(() => this.catchUp());
    // `finish` reports a failure.
    this.following.catch(() => {});
  }

  private async catchUp(): Promise<void> {
    if (this.hashedBytes >= this.writtenBytes) return;
    const buffer = allocateIoBuffer(READ_BYTES);
    while (this.hashedBytes < this.writtenBytes) {
      const wantedBytes = Math.min(READ_BYTES, this.writtenBytes - this.hashedBytes);
      const { bytesRead } = await this.file.read(buffer, 0, wantedBytes, this.hashedBytes);
      if (bytesRead === 0) throw new Error('the file has become shorter');
      this.hash.update(buffer.subarray(0, bytesRead));
      this.hashedBytes += bytesRead;
    }
  }
}
