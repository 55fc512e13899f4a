/** The SHA-256 of a file that grows: from the bytes as they come, and where it begins behind the start, from the file. */

import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { allocateIoBuffer } from '../../common/buffers.ts';
import { MIB } from '../../common/bytes.ts';

const READ_BYTES = MIB;

export class FileDigest {
  private readonly file: FileHandle;
  private readonly hash = createHash('sha256');
  private hashedBytes = 0;
  /** What is in the file for certain. */
  private writtenBytes: number;
  private following: Promise<void> = Promise.resolve();

  /** @param writtenBytes what the file holds; they are read at once, beside whatever else goes on */
  constructor(file: FileHandle, writtenBytes: number) {
    this.file = file;
    this.writtenBytes = writtenBytes;
    if (writtenBytes > 0) this.follow();
  }

  /** The next bytes, hashed while they are written: `written` resolves when they are in the file. One call at a time. */
  async add(bytes: Uint8Array, written: Promise<void>): Promise<void> {
    const isTheirTurn = this.hashedBytes === this.writtenBytes;
    if (isTheirTurn) {
      this.hash.update(bytes);
      this.hashedBytes += bytes.length;
    }
    await written;
    this.writtenBytes += bytes.length;
    // What lies in front may have been caught up with meanwhile, so that nobody would come for these.
    if (!isTheirTurn) this.follow();
  }

  /** Of the whole file, in hex. To be called once. @throws what reading the file throws */
  async finish(): Promise<string> {
    await this.following;
    return this.hash.digest('hex');
  }

  private follow(): void {
    this.following = this.following.then(() => this.catchUp());
    // Heard of in the end.
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
