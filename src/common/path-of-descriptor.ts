/** Paths in /proc of open descriptors (proc_pid_fd(5)). */

/** Flag of open(2): the descriptor identifies the file, and opening it neither reads the file nor wakes a device. */
export const O_PATH = 0o10000000;

/** Path that opens the descriptor's file even after a rename. Its link target (readlink) is the file's present path. */
export function pathOfDescriptor({ fd }: { fd: number }): string {
  return `/proc/self/fd/${fd}`;
}
