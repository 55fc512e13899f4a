/** Finds the file system of an open file: /proc/self/mountinfo, or else statfs(2). */

import { readFileSync } from 'node:fs';
import fs from 'node:fs/promises';
import { pathOfDescriptor } from '../common/path-of-descriptor.ts';
import { type FileSystemTraits, type MountedFileSystem, traitsOf } from './file-system-traits.ts';

export interface FileSystem extends FileSystemTraits {
  /** The type as mount(8) shows it, for messages: ext4, nfs4, fuse.sshfs. */
  type: string;
}

/** f_type of statfs(2) (linux/magic.h). All FUSE file systems share one number, so FUSE is not in the list. */
const TYPES_BY_MAGIC: ReadonlyMap<number, string> = new Map([
  [0xef53, 'ext4'],
  [0x58465342, 'xfs'],
  [0x9123683e, 'btrfs'],
  [0x01021994, 'tmpfs'],
  [0x794c7630, 'overlay'],
  [0x6969, 'nfs'],
  [0x00c36400, 'ceph'],
]);

type ReadText = (path: string) => string | Promise<string>;

const MOUNT_INFO = '/proc/self/mountinfo';

/**
 * The text of a descriptor is short and never blocks, so it is read synchronously; mountinfo may list thousands of
 * mounts.
 */
const readText: ReadText = (path) => (path === MOUNT_INFO ? fs.readFile(path, 'utf8') : readFileSync(path, 'utf8'));

/** Never throws: a file system that cannot be determined counts as unknown. @param read reads files of /proc */
export async function fileSystemOf(handle: { fd: number }, read = readText): Promise<FileSystem> {
  return createFileSystemLookup(read)(handle);
}

/** As {@link fileSystemOf}, for many files: each mount is looked up once. @param read reads files of /proc */
export function createFileSystemLookup(read = readText): (handle: { fd: number }) => Promise<FileSystem> {
  const mounts = new Map<string, Promise<MountedFileSystem | undefined>>();

  /**
   * By the mount's ID, because file systems of several devices (btrfs, overlay) report other device numbers than
   * mountinfo.
   */
  async function mountOf(fd: number): Promise<MountedFileSystem | undefined> {
    try {
      const mountId = mountIdOf(await read(`/proc/self/fdinfo/${fd}`));
      if (mountId === undefined) return undefined;
      const mount = mounts.get(mountId) ?? readMount(mountId);
      mounts.set(mountId, mount);
      return await mount;
    } catch {
      // No /proc, or a sandbox with a part of it.
      return undefined;
    }
  }

  const readMount = async (mountId: string) => findMount(await read(MOUNT_INFO), mountId);

  return async (handle) => {
    const mounted = (await mountOf(handle.fd)) ?? (await typeByMagic(handle));
    return { type: mounted.type, ...traitsOf(mounted) };
  };
}

async function typeByMagic(handle: { fd: number }): Promise<MountedFileSystem> {
  try {
    const magic = (await fs.statfs(pathOfDescriptor(handle))).type >>> 0;
    return { type: TYPES_BY_MAGIC.get(magic) ?? `type 0x${magic.toString(16)}`, options: undefined };
  } catch {
    return { type: 'type not known', options: undefined };
  }
}

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
