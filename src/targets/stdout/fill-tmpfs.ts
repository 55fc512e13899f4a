/**
 * Fills a file on tmpfs through mapped windows, in huge pages and by several threads. sendfile would allocate one page
 * after the other under the file's lock, which takes longer than the copy.
 */

import fs from 'node:fs';
import { promisify } from 'node:util';
import { abortable, throwIfAborted } from '../../common/abortable.ts';
import { MIB } from '../../common/bytes.ts';
import type { Clock } from '../../common/clock.ts';
import { type FileWindow, HUGE_PAGE_BYTES, openFileWindow } from '../../native/file-window.ts';
import type { Libc } from '../../native/libc.ts';

/** statfs(2) */
const TMPFS_MAGIC = 0x01021994;
const F_GETFL = 3;

/**
 * Bytes that one thread fills at a time: few calls, and an early reaction to an abort. Counts as memory of this process
 * while it is mapped.
 */
const WINDOW_BYTES = 8 * MIB;

/** With the thread that runs JavaScript, enough to keep two processors busy. One thread of the pool stays free. */
const WINDOW_COUNT = 3;

/**
 * In fragmented memory the kernel moves other pages to make room for a huge page, which takes longer than this. Memory
 * that a virtual machine returned to its host takes half as long, in small pages as well.
 */
const MAX_WAIT_MS_PER_MIB = 6;

/** Least number of bytes for a judgement of the speed. */
const TRIAL_BYTES = 16 * MIB;

const ftruncate = promisify(fs.ftruncate);
const close = promisify(fs.close);

interface Filling {
  fdIn: number;
  /** Offset of the first byte in `fdIn`. */
  fileOffset: number;
  /** Offset of the first byte in the output. Offset and length are multiples of a huge page. */
  outputOffset: number;
  length: number;
  signal: AbortSignal;
  /** Called with the bytes filled so far, without a gap. */
  onFilled(filledBytes: number): void;
}

export interface TmpfsFiller {
  /**
   * @returns the bytes filled, without a gap. When they are fewer than were asked for, the file has been cut behind
   * them, and it is of no use to ask again.
   * @throws DiskliftError `Cancelled` at once; what hangs in the kernel is left behind, and the file cut behind what is
   * right.
   */
  fill(filling: Filling): Promise<number>;
  close(): Promise<void>;
}

interface TmpfsFillerOptions {
  libc: Libc;
  /** The output, as somebody has opened it. */
  fd: number;
  clock: Clock;
}

/**
 * @returns undefined when the output is not a file on tmpfs that can be written at any place, or huge pages are
 * unknown.
 */
export async function createTmpfsFiller({ libc, fd, clock }: TmpfsFillerOptions): Promise<TmpfsFiller | undefined> {
  const output = await openForMapping(libc, fd);
  if (output === undefined) return undefined;
  const windows: FileWindow[] = [];
  for (let index = 0; index < WINDOW_COUNT; index += 1) {
    const window = await openFileWindow(libc, WINDOW_BYTES);
    if (window !== undefined) windows.push(window);
  }
  if (windows.length > 0) return new Filler(output, windows, clock);
  await close(output);
  return undefined;
}

/** Opens the output again, because a shell opens it for writing only and such a descriptor cannot be mapped. */
async function openForMapping(libc: Libc, fd: number): Promise<number | undefined> {
  const { value: flags } = await libc.fcntl(fd, F_GETFL, 0);
  if (flags < 0 || (flags & fs.constants.O_APPEND) !== 0) return undefined;
  const name = `/proc/self/fd/${fd}`;
  try {
    if (fs.statfsSync(name).type !== TMPFS_MAGIC) return undefined;
    return fs.openSync(name, 'r+');
  } catch {
    // Without /proc, or not ours to read.
    return undefined;
  }
}

class Filler implements TmpfsFiller {
  private readonly output: number;
  private readonly windows: FileWindow[];
  private readonly clock: Clock;
  /**
   * Changes of the file's length, each behind the one before: the shorter one, coming late, would cut what has been
   * filled.
   */
  private resizing: Promise<unknown> = Promise.resolve();
  private readonly sizeBefore: number;
  private size: number;
  /** Whether calls may still run that write through the windows. */
  private isLeftBehind = false;
  private waitedMs = 0;
  private triedBytes = 0;

  constructor(output: number, windows: FileWindow[], clock: Clock) {
    this.output = output;
    this.windows = windows;
    this.clock = clock;
    this.size = this.sizeBefore = fs.fstatSync(output).size;
  }

  async fill(filling: Filling): Promise<number> {
    const { outputOffset, length, signal } = filling;
    const unfilled = new Set<number>();
    let next = 0;
    let stopped = false;
    const filledBytes = () => Math.min(next, ...unfilled);

    const work = async (window: FileWindow) => {
      while (next < length && !stopped && !this.isTooSlow()) {
        const at = next;
        next = Math.min(at + WINDOW_BYTES, length);
        unfilled.add(at);
        const isFilled = await this.fillWindow(window, filling, { at, length: next - at });
        if (isFilled) unfilled.delete(at);
        stopped ||= !isFilled;
        if (isFilled) filling.onFilled(filledBytes());
      }
    };

    throwIfAborted(signal);
    this.isLeftBehind = true;
    try {
      await abortable(Promise.all(this.windows.map(work)), signal);
      this.isLeftBehind = false;
    } finally {
      stopped = true;
      await this.cutBackTo(outputOffset + filledBytes());
    }
    return filledBytes();
  }

  private async fillWindow(
    window: FileWindow,
    { fdIn, fileOffset, outputOffset }: Filling,
    { at, length }: { at: number; length: number },
  ): Promise<boolean> {
    if (!(await this.growTo(outputOffset + at + length))) return false;
    const startMs = this.clock.monotonicMs();
    const isShown = await window.showInHugePages({ fd: this.output, offset: outputOffset + at, length });
    this.waitedMs += this.clock.monotonicMs() - startMs;
    this.triedBytes += length;
    return isShown && window.fillFrom(fdIn, fileOffset + at);
  }

  private isTooSlow(): boolean {
    return this.triedBytes >= TRIAL_BYTES && this.waitedMs > (this.triedBytes / MIB) * MAX_WAIT_MS_PER_MIB;
  }

  private growTo(sizeBytes: number): Promise<boolean> {
    return this.resize(() => Math.max(this.size, sizeBytes));
  }

  private cutBackTo(sizeBytes: number): Promise<boolean> {
    return this.resize(() => Math.min(this.size, Math.max(this.sizeBefore, sizeBytes)));
  }

  /** @returns false when the file cannot be as long */
  private resize(sizeOf: () => number): Promise<boolean> {
    const resized = this.resizing.then(async () => {
      const size = sizeOf();
      try {
        if (size !== this.size) await ftruncate(this.output, size);
      } catch {
        return false;
      }
      this.size = size;
      return true;
    });
    this.resizing = resized;
    return resized;
  }

  /** Memory and descriptors that a call may still use stay as they are: another's would get what it writes. */
  async close(): Promise<void> {
    if (this.isLeftBehind) return;
    await Promise.all(this.windows.map((window) => window.close()));
    await close(this.output);
  }
}

/** How far it is from `offset` to the next beginning of a huge page. */
export function bytesToHugePage(offset: number): number {
  return (HUGE_PAGE_BYTES - (offset % HUGE_PAGE_BYTES)) % HUGE_PAGE_BYTES;
}

/** How much of `length` whole huge pages are. */
export function wholeHugePages(length: number): number {
  return length - (length % HUGE_PAGE_BYTES);
}
