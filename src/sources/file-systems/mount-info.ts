/** Parses the text of /proc/self/mountinfo (proc_pid_mountinfo(5)). Pure. */

import type { MountedFileSystem } from './file-system-traits.ts';

/** The kernel writes spaces, tabs, newlines and backslashes as three octal digits. */
const unescaped = (text: string) => text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));

/**
 * The mount with this ID. `options` are those of the file system, not of the mount point.
 * @returns undefined where the text has no such mount
 */
export function findMount(mountInfo: string, mountId: string): MountedFileSystem | undefined {
  for (const line of mountInfo.split('\n')) {
    if (!line.startsWith(`${mountId} `)) continue;
    // ID, parent, device, root, mount point, options, optional fields, a dash, type, source, options of the file system
    const fields = line.split(' ');
    const dash = fields.indexOf('-', 6);
    if (dash === -1) return undefined;
    const [type = '', , options = ''] = fields.slice(dash + 1);
    return { type: unescaped(type), options: new Set(unescaped(options).split(',')) };
  }
  return undefined;
}

/** Reads the mount's ID from the text of /proc/self/fdinfo/FD. */
export function mountIdOf(fdInfo: string): string | undefined {
  return /^mnt_id:\s*(\d+)$/m.exec(fdInfo)?.[1];
}
