/** Closing files that were only read. */

import type { FileHandle } from 'node:fs/promises';

/**
 * Never rejects. Storage that has gone away fails a close too (a killed FUSE daemon: ENOTCONN), after the read has failed. That
 * error says nothing new, and must not take the place of the first.
 */
export async function closeHandle(handle: Pick<FileHandle, 'close'>): Promise<void> {
  await handle.close().catch(() => {});
}
