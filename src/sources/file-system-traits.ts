/**
 * Kinds of file systems, and how reliable the kernel's answers about a file are while others write to it. Pure. The
 * sources are the kernel's own code (fs/fuse, fs/nfs, fs/smb, fs/9p, fs/overlayfs) and the runs in
 * docs/compatibility.md.
 */

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
