/** Fetches the present attributes of a file from a server: statx(2) with AT_STATX_FORCE_SYNC. */

import type { Libc } from './libc.ts';

const AT_STATX_FORCE_SYNC = 0x2000;
/** Size, inode, times: the fields of stat(2). */
const STATX_BASIC_STATS = 0x7ff;

/**
 * ENOSYS: Linux before 4.11. EPERM: sandboxes that are older than the call. EINVAL: stand-ins for Linux without its
 * flags.
 */
const LACKS_STATX: ReadonlySet<string> = new Set(['ENOSYS', 'EPERM', 'EINVAL']);

/**
 * Makes the kernel request the attributes of `fd` from its server, so that a later fstat(2) reports no cached ones. NFS
 * caches them for seconds, and file systems in user space for any time. Local file systems need no request.
 * @returns the errno of a failed request
 */
export async function refreshAttributes(libc: Libc, fd: number): Promise<string | undefined> {
  const errno = (await libc.statx?.(fd, AT_STATX_FORCE_SYNC, STATX_BASIC_STATS))?.errno;
  return errno === undefined || LACKS_STATX.has(errno) ? undefined : errno;
}
