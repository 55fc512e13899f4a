/** One way to write the mixed disk's data to standard output; bench/data-path.ts compares the ways. */

import fs from 'node:fs';
import { createRequire } from 'node:module';
import { promisify } from 'node:util';
import { isMainThread, Worker } from 'node:worker_threads';
import { REGION } from './bench-disks.ts';

process.env.UV_THREADPOOL_SIZE ??= '12';

const [variant, disk] = process.argv.slice(2) as [string, string];
const EAGAIN = 11;
const F_SETPIPE_SZ = 1031;
const POLLOUT = 4;
const MOVE_NONBLOCK_MORE = 7;
const MIB = 1024 * 1024;

const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
const libc = koffi.load('libc.so.6');
const splice = libc.func('int64_t splice(int in, int64_t *offIn, int out, int64_t *offOut, size_t length, unsigned int flags)');
const sendfile = libc.func('int64_t sendfile64(int out, int in, int64_t *offset, size_t length)');
const poll = libc.func('int poll(void *fds, unsigned long count, int timeoutMs)');
const fcntl = libc.func('int fcntl(int fd, int command, int argument)');
const pollfd = new Uint8Array(8);
new DataView(pollfd.buffer).setInt32(0, 1, true);
new DataView(pollfd.buffer).setInt16(4, POLLOUT, true);

/** The kernel's result: a negative error number. Errno is read at once, because compiling a function may change it. */
function valueOrErrno(value: number): number {
  const errno = koffi.errno();
  return Number(value) < 0 ? -errno : Number(value);
}
valueOrErrno(-1);

type Native = ReturnType<typeof libc.func>;
const inPool = (native: Native, ...parameters: unknown[]) =>
  new Promise<number>((resolve, reject) => {
    native.async(...parameters, (error: Error | null, value: number) => {
      const result = valueOrErrno(value);
      if (error === null) resolve(result);
      else reject(error);
    });
  });
const onThread = async (native: Native, ...parameters: unknown[]) => valueOrErrno(native(...parameters));

const fd = fs.openSync(disk, 'r');

async function eachRun(move: (offset: number, end: number) => Promise<void>): Promise<void> {
  for (let region = 0; region < REGION.count; region += 1)
    await move(region * REGION.sizeBytes, region * REGION.sizeBytes + REGION.dataBytes);
}

async function spliceAll(call: typeof inPool): Promise<void> {
  await eachRun(async (start, end) => {
    const offset = BigInt64Array.of(BigInt(start));
    for (let at = start; at < end; ) {
      const moved = await call(splice, fd, offset, 1, null, end - at, MOVE_NONBLOCK_MORE);
      if (moved > 0) at += moved;
      else if (moved === -EAGAIN) await call(poll, pollfd, 1, 100);
      else throw new Error(`splice: ${moved}`);
    }
  });
}

async function sendfileAll(): Promise<void> {
  await eachRun(async (start, end) => {
    const offset = BigInt64Array.of(BigInt(start));
    for (let at = start; at < end; ) at += await inPool(sendfile, 1, fd, offset, Math.min(end - at, 32 * MIB));
  });
}

async function readAndWriteAll(): Promise<void> {
  const read = promisify(fs.read);
  const write = promisify(fs.write);
  const buffers: Buffer[] = Array.from({ length: 5 }, () => Buffer.allocUnsafeSlow(MIB + 48).subarray(48));
  const ahead: { done: Promise<unknown>; buffer: Buffer }[] = [];
  const writeOldest = async () => {
    const { done, buffer } = ahead.shift() as (typeof ahead)[number];
    await done;
    for (let at = 0; at < buffer.length; ) at += (await write(1, buffer, at, buffer.length - at, null)).bytesWritten;
    buffers.push(buffer);
  };
  await eachRun(async (start, end) => {
    for (let at = start; at < end; at += MIB) {
      if (buffers.length === 0) await writeOldest();
      const buffer = buffers.pop() as Buffer;
      ahead.push({ done: read(fd, buffer, 0, MIB, at), buffer });
    }
  });
  while (ahead.length > 0) await writeOldest();
}

if (variant !== 'splice, pipe of 64 KiB') fcntl(1, F_SETPIPE_SZ, MIB);
if (variant === 'splice in a thread of its own' && isMainThread) new Worker(new URL(import.meta.url), { argv: [variant, disk] });
else if (variant === 'splice in a thread of its own') await spliceAll(onThread);
else if (variant.startsWith('splice')) await spliceAll(inPool);
else if (variant === 'sendfile in the pool') await sendfileAll();
else await readAndWriteAll();
