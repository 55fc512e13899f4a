/** _exit(2): ends a process that a hanging call would keep. */

import { openNativeLibrary } from './library.ts';

/**
 * Ends the process at once. Node's own exit waits for every thread of its pool. A thread that reads from unreachable storage (NFS
 * mounted hard) returns only when the storage is back. Without koffi the process ends by SIGKILL, or by SIGABRT as the first process
 * of a container, which cannot kill itself.
 */
export function exitProcess(exitCode: number): void {
  openNativeLibrary()?.func('void _exit(int status)')(exitCode);
  process.kill(process.pid, 'SIGKILL');
  process.abort();
}
