/** Names in /proc for what is open (proc_pid_fd(5)). */

/** For open(2): the descriptor says what a file is and where it lies, and neither reads nor wakes it. */
export const O_PATH = 0o10000000;

/** Opens what a descriptor has open, whatever has become of the name that it was opened by; as a link, it leads to where that lies now. */
export function pathOfDescriptor({ fd }: { fd: number }): string {
  return `/proc/self/fd/${fd}`;
}
