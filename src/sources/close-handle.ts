/** Closes files that were only read. */

import type { FileHandle } from 'node:fs/promises';

/**
 * Never rejects. After a read error on lost storage the close fails as well (a killed FUSE daemon: ENOTCONN). The second error must not
 * replace the first.
 */
export async function closeHandle(handle: Pick<FileHandle, 'close'>): Promise<void> {
  await handle.close().catch(() => {});
}
