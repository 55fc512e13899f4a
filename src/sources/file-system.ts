/**
 * Finds the file system of an open file: /proc/self/mountinfo, or else statfs(2). A table has each kind's traits: how
 * reliable the kernel's answers about a file are while others write to it. The sources of the table are the kernel's
 * own code (fs/fuse, fs/nfs, fs/smb, fs/9p, fs/overlayfs) and the runs in docs/compatibility.md.
 */

import { readFileSync } from 'node:fs';
import fs from 'node:fs/promises';
import { pathOfDescriptor } from '../common/path-of-descriptor.ts';

export interface FileSystemTraits {
  /** Every writer goes through this kernel, so the kernel's locks and leases cover every writer. */
  isLocal: boolean;
  /** A write by any writer changes mtime or ctime, as read with AT_STATX_FORCE_SYNC. */
  timesShowWrites: boolean;
  /** A byte-range lock of any writer is visible here. False also where that depends on the server. */
  locksAreShared: boolean;
  /** Pages that this kernel has cached can be older than the file. */
  cacheGoesStale: boolean;
}

/** A mounted file system. `options` are those of /proc/self/mountinfo; undefined when they could not be read. */
export interface MountedFileSystem {
  type: string;
  options: ReadonlySet<string> | undefined;
}

const LOCAL: FileSystemTraits = { isLocal: true, timesShowWrites: true, locksAreShared: true, cacheGoesStale: false };

/** The servers keep all clients' attributes, pages and locks coherent. */
const CLUSTER: FileSystemTraits = { ...LOCAL, isLocal: false };

/** These traits also apply to every kind that is not in the table. */
const UNKNOWN: FileSystemTraits = { isLocal: false, timesShowWrites: false, locksAreShared: false, cacheGoesStale: true };

const LOCAL_TYPES = [
  ...['ext2', 'ext3', 'ext4', 'xfs', 'btrfs', 'zfs', 'bcachefs', 'f2fs', 'jfs', 'nilfs2', 'reiserfs', 'ubifs', 'jffs2'],
  ...['tmpfs', 'ramfs', 'rootfs', 'devtmpfs', 'hugetlbfs'],
  ...['vfat', 'msdos', 'exfat', 'ntfs3', 'hfs', 'hfsplus', 'minix', 'ufs', 'udf'],
  ...['iso9660', 'squashfs', 'erofs', 'cramfs', 'romfs'],
];

type Options = ReadonlySet<string> | undefined;

const has = (options: Options, ...names: string[]) => names.some((name) => options?.has(name));

/** Unknown mount options may keep locks local. */
const withLocksUnless = (traits: FileSystemTraits, options: Options, ...localLocks: string[]): FileSystemTraits => ({
  ...traits,
  locksAreShared: options !== undefined && !has(options, ...localLocks),
});

/** FUSE file systems are mounted as `fuse.NAME`. The daemon chooses the name, and may omit it. */
const TRAITS: Readonly<Record<string, (options: Options) => FileSystemTraits>> = {
  ...Object.fromEntries(LOCAL_TYPES.map((type) => [type, () => LOCAL])),
  // Reads and writes reach the layers, but locks stay at the overlay: a writer at a layer and a reader of the overlay
  // share no lock.
  overlay: () => ({ ...CLUSTER, locksAreShared: false }),
  // Versions 2 and 3: for F_GETLK with a write lock, Linux's lock service overlooks read locks, and QEMU uses only read
  // locks.
  nfs: () => ({ ...CLUSTER, locksAreShared: false }),
  nfs4: (options) => withLocksUnless(CLUSTER, options, 'nolock', 'local_lock=all', 'local_lock=posix'),
  ceph: () => CLUSTER,
  lustre: (options) => withLocksUnless(CLUSTER, options, 'localflock'),
  gfs2: (options) => withLocksUnless(CLUSTER, options, 'localflocks', 'lockproto=lock_nolock'),
  ocfs2: (options) => withLocksUnless(CLUSTER, options, 'localflocks'),
  // A client with an oplock answers from its cache, and a local writer on the server breaks no oplock. Locks of SMB
  // clients are visible without the mount option nobrl; locks of programs on the server are not.
  cifs: () => UNKNOWN,
  smb3: () => UNKNOWN,
  // Some servers, such as QEMU's, confirm every lock and keep none.
  '9p': (options) => (cachesNothing(options) ? { ...CLUSTER, locksAreShared: false } : UNKNOWN),
  'fuse.juicefs': () => CLUSTER,
  'fuse.glusterfs': () => ({ ...UNKNOWN, locksAreShared: true }),
};

/** Parses the cache option of 9p: a name up to Linux 6.3, bits since then. */
function cachesNothing(options: Options): boolean {
  if (options === undefined) return false;
  return [...options].every((option) => !/^(fscache|cache=(?!none$|0+$))/.test(option));
}

/** Assumes the worst of an unknown kind: its times miss writes, its locks are local, its cache can be stale. */
export function traitsOf({ type, options }: MountedFileSystem): FileSystemTraits {
  return Object.hasOwn(TRAITS, type) ? (TRAITS[type]?.(options) ?? UNKNOWN) : UNKNOWN;
}

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
