/** _exit(2): the end of a process that a hung call would otherwise keep. */

import { openNativeLibrary } from './library.ts';

/**
 * Ends the process at once. Node's own end waits for every thread of its pool, and a thread that reads from storage that does not
 * answer (NFS mounted hard) returns only when the storage is back. Without koffi the process ends by SIGKILL.
 */
export function exitProcess(exitCode: number): void {
  openNativeLibrary()?.func('void _exit(int status)')(exitCode);
  process.kill(process.pid, 'SIGKILL');
}
