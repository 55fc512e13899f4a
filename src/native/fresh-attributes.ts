/** Asking a file system on the network what a file is now: statx(2) with AT_STATX_FORCE_SYNC. */

import type { Libc } from './libc.ts';

const AT_STATX_FORCE_SYNC = 0x2000;
/** Size, inode, times: what stat(2) tells. */
const STATX_BASIC_STATS = 0x7ff;

/** ENOSYS: Linux before 4.11. EPERM: sandboxes that are older than the call. EINVAL: stand-ins for Linux without its flags. */
const LACKS_STATX: ReadonlySet<string> = new Set(['ENOSYS', 'EPERM', 'EINVAL']);

/**
 * Has the kernel ask the server of `fd`, so that a fstat(2) behind it is not answered out of what was known a while ago: NFS keeps
 * that for seconds, and file systems in user space for as long as they please. Local file systems have nothing to ask.
 * @returns the error of a server that cannot be asked
 */
export async function refreshAttributes(libc: Libc, fd: number): Promise<string | undefined> {
  const errno = (await libc.statx?.(fd, AT_STATX_FORCE_SYNC, STATX_BASIC_STATS))?.errno;
  return errno === undefined || LACKS_STATX.has(errno) ? undefined : errno;
}
