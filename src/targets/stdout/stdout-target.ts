/**
 * Standard output. Into a pipe or a file, long runs of data go from the source's descriptor without passing through this
 * process; all else is read ahead and written. The image's last bytes are held back until everything has been
 * read and the source is known to be unchanged: a reader gets the complete right image, or a cut one.
 */

import fs from 'node:fs';
import { promisify } from 'node:util';
import { KIB, MIB } from '../../common/bytes.ts';
import { allocateIoBuffer } from '../../common/io-buffer.ts';
import type { VirtualImage } from '../../image/contract.ts';
import type { Libc } from '../../native/libc.ts';
import { enlargePipe } from '../../native/move.ts';
import type { ExportTarget, Receipt, TransferContext } from '../contract.ts';
import { moveRun, waitDrained } from './move-run.ts';
import { createPrefetcher } from './prefetcher.ts';
import { writeError, writeFully } from './write-fully.ts';

/** As much as the largest cluster: `qemu-img check` does not notice an image that lacks less than one. */
const SEALED_TAIL_BYTES = 2 * MIB;

/** A shorter run costs more in calls than its copy. */
const SHORTEST_MOVE_BYTES = 64 * KIB;

const LAST_STANDARD_FD = 2;

const fstat = promisify(fs.fstat);
const close = promisify(fs.close);

async function kindOf(fd: number): Promise<'pipe' | 'file' | 'other'> {
  const stat = await fstat(fd);
  return stat.isFIFO() ? 'pipe' : stat.isFile() ? 'file' : 'other';
}

interface Output {
  /** Closed at the end of a successful transfer; a standard stream stands for /dev/null afterwards. */
  fd: number;
  libc: Libc | undefined;
}

export function createStdoutTarget(output: Output): ExportTarget {
  return { send: (image, context) => new Transfer(output, image, context).run(), abandon: async () => {} };
}

class Transfer {
  private readonly output: Output;
  private readonly image: VirtualImage;
  private readonly context: TransferContext;
  private sentBytes = 0;

  constructor(output: Output, image: VirtualImage, context: TransferContext) {
    this.output = output;
    this.image = image;
    this.context = context;
  }

  async run(): Promise<Receipt> {
    const { image, context } = this;
    const { sizeBytes } = image;
    const tail = allocateIoBuffer(Math.min(SEALED_TAIL_BYTES, sizeBytes));
    const tailStart = sizeBytes - tail.length;
    await this.moveUpTo(tailStart);
    await this.streamUpTo(tailStart);
    await image.read(tail, tailStart, context.signal);
    await context.seal();
    await this.write(tail);
    if (this.sentBytes !== sizeBytes) throw new RangeError(`${this.sentBytes} bytes were sent of an image of ${sizeBytes}`);
    await this.close();
    return { location: 'stdout', sizeBytes, proof: 'close' };
  }

  /** Sends what lies in front of `end`, long runs of data from descriptor to descriptor; the rest is for reads and writes. */
  private async moveUpTo(end: number): Promise<void> {
    const { image, context } = this;
    const { fd, libc } = this.output;
    const outputKind = await kindOf(fd);
    if (libc === undefined || image.placedRuns === undefined || outputKind === 'other') return;
    if (outputKind === 'pipe') await enlargePipe(libc, fd);
    const prefetcher = createPrefetcher(libc, image.placedRuns(0, end));
    let moved = false;
    for (const run of image.placedRuns(0, end)) {
      if (run.length < SHORTEST_MOVE_BYTES) continue;
      await this.streamUpTo(run.imageOffset);
      prefetcher.advanceTo(run.imageOffset);
      const movedBytes = await moveRun({
        libc,
        outputKind,
        fdIn: run.fd,
        fdOut: fd,
        fileOffset: run.fileOffset,
        length: run.length,
        signal: context.signal,
        onMoved: (runBytes) => {
          prefetcher.advanceTo(run.imageOffset + runBytes);
          context.progress(run.imageOffset + runBytes);
        },
      });
      this.sentBytes += movedBytes;
      moved ||= movedBytes > 0;
    }
    if (moved && outputKind === 'pipe') await waitDrained({ libc, fd, signal: context.signal, sentBytes: this.sentBytes });
  }

  private async streamUpTo(end: number): Promise<void> {
    if (this.sentBytes >= end) return;
    const { image, context } = this;
    for await (const chunk of image.stream({ start: this.sentBytes, end, signal: context.signal })) await this.write(chunk);
  }

  /** Some file systems report a failed write only when the file is closed. */
  private async close(): Promise<void> {
    const { fd } = this.output;
    await close(fd).catch((error: unknown) => {
      throw writeError(this.sentBytes, error);
    });
    // The number of a closed standard stream would go to whatever is opened next.
    if (fd <= LAST_STANDARD_FD) fs.openSync('/dev/null', 'w');
  }

  private async write(bytes: Uint8Array): Promise<void> {
    const { fd, libc } = this.output;
    await writeFully({ fd, libc, signal: this.context.signal }, bytes, this.sentBytes);
    this.sentBytes += bytes.length;
    this.context.progress(this.sentBytes);
  }
}
