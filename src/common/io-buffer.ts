/** Buffers that the kernel copies file pages into. */

/**
 * A large allocation of the C library begins 16 bytes behind the start of a page. Copying pages to there takes twice as
 * long on current x86 processors as copying to any other 16-byte boundary, because each store seems to overlap the load
 * behind it (docs/decisions/0002-read-buffers.md). So the buffer begins at the next cache line.
 */
const HEAD_BYTES = 48;

/** A buffer with arbitrary content, in memory of its own (not of Node's pool). */
export function allocateIoBuffer(sizeBytes: number): Buffer {
  return Buffer.allocUnsafeSlow(HEAD_BYTES + sizeBytes).subarray(HEAD_BYTES);
}
