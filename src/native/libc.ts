/**
 * The C library's functions that Node lacks. All calls run in libuv's thread pool, so a file system that hangs does not
 * hang the event loop. Without koffi `loadLibc` returns undefined, and callers use Node's own functions.
 */

import os from 'node:os';
import { type NativeLibrary, nameOfErrno, openNativeLibrary } from './library.ts';

/** The result of a call. `errno` is the error's name (`ENXIO`), and undefined when the value is not negative. */
export interface CallResult {
  value: number;
  errno?: string | undefined;
}

/** Bindings, named and ordered as in C. Offsets and lengths are bytes. */
export interface Libc {
  lseek(fd: number, offset: number, whence: number): Promise<CallResult>;
  /** `offsetIn` is read by the call and advanced by it. */
  splice(fdIn: number, offsetIn: BigInt64Array, fdOut: number, length: number, flags: number): Promise<CallResult>;
  /** `offsetIn` is read by the call and advanced by it. */
  sendfile(fdOut: number, fdIn: number, offsetIn: BigInt64Array, length: number): Promise<CallResult>;
  poll(fd: number, events: number, timeoutMs: number): Promise<CallResult & { revents: number }>;
  posixFadvise(fd: number, offset: number, length: number, advice: number): Promise<CallResult>;
  fcntl(fd: number, command: number, argument: number): Promise<CallResult>;
  /** fcntl(2) with a struct flock. The result has the lock as the call has left it. */
  fcntlLock(fd: number, command: number, lock: FileLock): Promise<CallResult & { lock: FileLock }>;
  /**
   * `value` is the address of the mapping. Only the kernel may access it: in this process, access to a page that cannot
   * be loaded ends the process.
   */
  mmap(mapping: Mapping): Promise<CallResult>;
  munmap(address: number, length: number): Promise<CallResult>;
  madvise(address: number, length: number, advice: number): Promise<CallResult>;
  /** Reads into mapped memory. */
  pread(fd: number, address: number, length: number, offset: number): Promise<CallResult>;
  /** The caller's flags must include O_CLOEXEC for a descriptor that closes on exec. */
  openat2(directoryFd: number, path: string, how: OpenHow): Promise<CallResult>;
  /** Queries the file that `fd` has open, and drops the result. Absent where the C library has no such function. */
  statx?(fd: number, flags: number, mask: number): Promise<CallResult>;
  /** FS_IOC_FIEMAP: `map` is a struct fiemap with room for extents behind it, which the call fills. */
  fiemap(fd: number, map: ArrayBuffer): Promise<CallResult>;
  /** FIONREAD: `value` is the number of bytes that can be read from `fd`. */
  bytesReadable(fd: number): Promise<CallResult>;
}

/**
 * An extent of a file in struct flock. `processId` is 0 in a query, and -1 in the answer for a lock that no process
 * owns.
 */
interface FileLock {
  type: number;
  offset: number;
  length: number;
  processId: number;
}

/** The parameters of mmap(2). */
interface Mapping {
  /** 0: wherever there is room. */
  address: number;
  length: number;
  protection: number;
  flags: number;
  /** -1 for memory without a file. */
  fd: number;
  offset: number;
}

/** struct open_how, without a mode: nothing is created. */
interface OpenHow {
  flags: number;
  resolve: number;
}

const FIONREAD = 0x541b;
const FS_IOC_FIEMAP = 0xc020660b;
const AT_EMPTY_PATH = 0x1000;
const STATX_SIZE_BYTES = 256;

/** The same on every platform that Node runs on; the C library has no function for it yet. */
const SYS_OPENAT2 = 437;
const OPEN_HOW_SIZE_BYTES = 24;
const IS_LITTLE_ENDIAN = os.endianness() === 'LE';

let loaded: { libc: Libc | undefined } | undefined;

/** Loads the bindings once. */
export function loadLibc(): Libc | undefined {
  loaded ??= { libc: tryBind() };
  return loaded.libc;
}

function tryBind(): Libc | undefined {
  const library = openNativeLibrary();
  try {
    return library === undefined ? undefined : bind(library);
  } catch {
    // A C library without one of the functions.
    return undefined;
  }
}

function bind(library: NativeLibrary): Libc {
  const { errno: readErrno } = library;
  type Callback = (error: Error | null, result: number | bigint) => void;

  /**
   * The parameters of running calls. koffi passes on the address of a typed array and keeps no reference to it. If the
   * garbage collector took the array during the call, the kernel would write to memory of another object.
   */
  const inFlight = new Set<readonly unknown[]>();

  /**
   * Reads errno first of all and always: compiling this function on its first call, or again after a long time without
   * one, would change errno.
   */
  function callback(resolve: (result: CallResult) => void, reject: (error: Error) => void): Callback {
    return (error, result) => {
      const errno = readErrno();
      if (error !== null) return reject(error);
      const value = Number(result);
      resolve(value < 0 ? { value, errno: nameOfErrno(errno) } : { value });
    };
  }
  callback(
    () => {},
    () => {},
  )(null, -1);

  function declare(prototype: string): (...parameters: unknown[]) => Promise<CallResult> {
    const native = library.func(prototype);
    return async (...parameters) => {
      inFlight.add(parameters);
      try {
        return await new Promise<CallResult>((resolve, reject) => native.async(...parameters, callback(resolve, reject)));
      } finally {
        inFlight.delete(parameters);
      }
    };
  }

  /** glibc has it since 2.28, musl since 1.2.5. */
  function declareStatx(): Pick<Libc, 'statx'> {
    try {
      const statx = declare('int statx(int directoryFd, const char *path, int flags, unsigned int mask, void *result)');
      return { statx: (fd, flags, mask) => statx(fd, '', flags | AT_EMPTY_PATH, mask, new ArrayBuffer(STATX_SIZE_BYTES)) };
    } catch {
      return {};
    }
  }

  const splice = declare('int64_t splice(int fdIn, int64_t *offIn, int fdOut, int64_t *offOut, size_t length, unsigned int flags)');
  const poll = declare('int poll(void *fds, unsigned long count, int timeoutMs)');
  const fadvise = declare('int posix_fadvise64(int fd, int64_t offset, int64_t length, int advice)');
  const fcntlLock = declare('int fcntl(int fd, int command, void *lock)');
  const openat2 = declare('int64_t syscall(int64_t number, int64_t directoryFd, const char *path, void *how, size_t size)');
  const mmap = declare('int64_t mmap64(int64_t address, size_t length, int protection, int flags, int fd, int64_t offset)');
  const ioctl = declare('int ioctl(int fd, unsigned long request, void *argument)');

  return {
    ...declareStatx(),
    lseek: declare('int64_t lseek64(int fd, int64_t offset, int whence)'),
    sendfile: declare('int64_t sendfile64(int fdOut, int fdIn, int64_t *offIn, size_t length)'),
    fcntl: declare('int fcntl(int fd, int command, int argument)'),
    mmap: ({ address, length, protection, flags, fd, offset }) => mmap(address, length, protection, flags, fd, offset),
    munmap: declare('int munmap(int64_t address, size_t length)'),
    madvise: declare('int madvise(int64_t address, size_t length, int advice)'),
    pread: declare('int64_t pread64(int fd, int64_t address, size_t length, int64_t offset)'),
    async fcntlLock(fd, command, lock) {
      const bytes = encodeLock(lock);
      const result = await fcntlLock(fd, command, bytes.buffer);
      return { ...result, lock: decodeLock(bytes) };
    },
    // u64 flags, u64 mode, u64 resolve
    openat2: (directoryFd, path, { flags, resolve }) =>
      openat2(SYS_OPENAT2, directoryFd, path, BigUint64Array.of(BigInt(flags), 0n, BigInt(resolve)), OPEN_HOW_SIZE_BYTES),
    splice: (fdIn, offsetIn, fdOut, length, flags) => splice(fdIn, offsetIn, fdOut, null, length, flags),
    async poll(fd, events, timeoutMs) {
      // struct pollfd: int fd, short events, short revents
      const pollfd = new DataView(new ArrayBuffer(8));
      pollfd.setInt32(0, fd, IS_LITTLE_ENDIAN);
      pollfd.setInt16(4, events, IS_LITTLE_ENDIAN);
      const result = await poll(pollfd.buffer, 1, timeoutMs);
      return { ...result, revents: pollfd.getInt16(6, IS_LITTLE_ENDIAN) };
    },
    async posixFadvise(fd, offset, length, advice) {
      // Returns the error number instead of setting errno.
      const { value } = await fadvise(fd, offset, length, advice);
      return value === 0 ? { value } : { value: -1, errno: nameOfErrno(value) };
    },
    fiemap: (fd, map) => ioctl(fd, FS_IOC_FIEMAP, map),
    async bytesReadable(fd) {
      const count = new Int32Array(1);
      const result = await ioctl(fd, FIONREAD, count);
      return result.value < 0 ? result : { value: count[0] as number };
    },
  };
}

// struct flock: short type, short whence (0: from the file's beginning), int64 start, int64 length, int pid

function encodeLock({ type, offset, length, processId }: FileLock): DataView<ArrayBuffer> {
  const bytes = new DataView(new ArrayBuffer(32));
  bytes.setInt16(0, type, IS_LITTLE_ENDIAN);
  bytes.setBigInt64(8, BigInt(offset), IS_LITTLE_ENDIAN);
  bytes.setBigInt64(16, BigInt(length), IS_LITTLE_ENDIAN);
  bytes.setInt32(24, processId, IS_LITTLE_ENDIAN);
  return bytes;
}

function decodeLock(bytes: DataView): FileLock {
  return {
    type: bytes.getInt16(0, IS_LITTLE_ENDIAN),
    offset: Number(bytes.getBigInt64(8, IS_LITTLE_ENDIAN)),
    length: Number(bytes.getBigInt64(16, IS_LITTLE_ENDIAN)),
    processId: bytes.getInt32(24, IS_LITTLE_ENDIAN),
  };
}

/**
 * _exit(2): ends the process at once. Node's own exit waits for every thread of its pool. A thread that reads from
 * unreachable storage (NFS mounted hard) returns only when the storage is back. Without koffi the process ends by
 * SIGKILL, or by SIGABRT as the first process of a container, which cannot kill itself.
 */
export function exitProcess(exitCode: number): void {
  openNativeLibrary()?.func('void _exit(int status)')(exitCode);
  process.kill(process.pid, 'SIGKILL');
  process.abort();
}
