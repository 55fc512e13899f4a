/** The SHA-256 of a file that grows: from the bytes as they come, and where it begins behind the start, from the file. */

import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { MIB } from '../../common/bytes.ts';
import { allocateIoBuffer } from '../../common/io-buffer.ts';

const READ_BYTES = MIB;

export class FileDigest {
  private readonly file: FileHandle;
  private readonly hash = createHash('sha256');
  private hashedBytes = 0;
  /** What has been written; the hash follows. */
  private writtenBytes: number;
  private following: Promise<void> | undefined;

  /** @param writtenBytes what the file holds; they are read at once, beside whatever else goes on */
  constructor(file: FileHandle, writtenBytes: number) {
    this.file = file;
    this.writtenBytes = writtenBytes;
    if (writtenBytes > 0) {
      this.following = this.follow();
      // Heard of in the end.
      this.following.catch(() => {});
    }
  }

  /** The next bytes, which are in the file now. */
  add(bytes: Uint8Array): void {
    if (this.hashedBytes === this.writtenBytes) {
      this.hash.update(bytes);
      this.hashedBytes += bytes.length;
    }
    this.writtenBytes += bytes.length;
  }

  /** Of the whole file, in hex. To be called once. */
  async finish(): Promise<string> {
    await this.following;
    return this.hash.digest('hex');
  }

  private async follow(): Promise<void> {
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
