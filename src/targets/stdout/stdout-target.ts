/**
 * Standard output. Into a pipe or a file, long runs of data go from the source's descriptor without passing through
 * this process; all else is read ahead and written. The image's last bytes are held back until everything has been read
 * and the source is known to be unchanged: a reader gets the complete right image, or a cut one.
 */

import fs from 'node:fs';
import { promisify } from 'node:util';
import { KIB, MIB } from '../../common/bytes.ts';
import type { Clock } from '../../common/clock.ts';
import type { ImageFileExtent, VirtualImage } from '../../image/contract.ts';
import { createCachedReader, prefetchPages } from '../../native/file-cache.ts';
import type { Libc } from '../../native/libc.ts';
import type { ExportTarget, Receipt, TransferContext } from '../contract.ts';
import { sealedTailStart, sendUpToSeal } from '../send-up-to-seal.ts';
import { type Mover, openMover } from './open-mover.ts';
import { writeError, writeFully } from './write-fully.ts';

/** A shorter run costs more in calls than its copy. */
const MIN_MOVE_BYTES = 64 * KIB;

const LAST_STANDARD_FD = 2;

const close = promisify(fs.close);

interface Output {
  /** Closed at the end of a successful transfer; a standard stream stands for /dev/null afterwards. */
  fd: number;
  libc: Libc | undefined;
  clock: Clock;
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
    await this.moveUpTo(sealedTailStart(image));
    const sealed = await sendUpToSeal({ image, context, startBytes: this.sentBytes, write: (bytes) => this.write(bytes) });
    if (sealed !== undefined) await this.write(sealed.tail);
    if (this.sentBytes !== sizeBytes) throw new RangeError(`${this.sentBytes} bytes were sent of an image of ${sizeBytes}`);
    await this.close();
    return { location: 'stdout', sizeBytes, proof: 'close' };
  }

  /**
   * Sends what lies in front of `end`, long runs of data from descriptor to descriptor; the rest is for reads and
   * writes.
   */
  private async moveUpTo(end: number): Promise<void> {
    const { libc, fd, clock } = this.output;
    if (libc === undefined || this.image.fileExtents === undefined) return;
    const mover = await openMover({ libc, fdOut: fd, clock });
    if (mover === undefined) return;
    try {
      const prefetcher = createPrefetcher(libc, this.image.fileExtents(0, end));
      for (const run of this.image.fileExtents(0, end)) {
        if (run.length < MIN_MOVE_BYTES) continue;
        await this.streamUpTo(run.imageOffset);
        const movedBytes = await this.moveRun(run, mover, prefetcher);
        this.sentBytes += movedBytes;
      }
      await mover.settle(this.context.signal, this.sentBytes);
    } finally {
      await mover.close();
    }
  }

  private async moveRun({ imageOffset, fd, fileOffset, length }: ImageFileExtent, mover: Mover, prefetcher: Prefetcher): Promise<number> {
    const { signal, progress } = this.context;
    prefetcher.advanceTo(imageOffset);
    const onMoved = (movedBytes: number) => {
      prefetcher.advanceTo(imageOffset + movedBytes);
      progress(imageOffset + movedBytes);
    };
    return mover.move({ fdIn: fd, fileOffset, length, signal, onMoved });
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

  /** @returns true: standard output never refuses the rest */
  private async write(bytes: Uint8Array): Promise<boolean> {
    const { fd, libc } = this.output;
    await writeFully({ fd, libc, signal: this.context.signal }, bytes, this.sentBytes);
    this.sentBytes += bytes.length;
    this.context.progress(this.sentBytes);
    return true;
  }
}

/** Enough for storage that answers late; little enough that pages are still cached when their turn comes. */
const AHEAD_BYTES = 16 * MIB;

/** One request to the kernel. */
const STEP_BYTES = 2 * MIB;

/** Each takes a thread of the pool while it is being accepted. */
const REQUESTS_IN_FLIGHT = 3;

interface Prefetcher {
  /** To be called as the transfer proceeds, with the offset in the image that it has reached. */
  advanceTo(imageOffset: number): void;
}

/** @param runs all that will be moved, in order */
function createPrefetcher(libc: Libc, runs: Iterable<ImageFileExtent>): Prefetcher {
  const steps = stepsOf(runs);
  let next = steps.next();
  let inFlight = 0;
  const cached = createCachedReader(1);

  /** Judged by both ends; a wrong guess costs time only. */
  function isCached({ fd, fileOffset, length }: ImageFileExtent): boolean {
    return cached?.read(fd, fileOffset) === true && cached.read(fd, fileOffset + length - 1);
  }

  return {
    advanceTo(imageOffset) {
      while (!next.done && inFlight < REQUESTS_IN_FLIGHT && next.value.imageOffset < imageOffset + AHEAD_BYTES) {
        const step = next.value;
        next = steps.next();
        const isPassed = step.imageOffset + step.length <= imageOffset;
        if (isPassed || isCached(step)) continue;
        inFlight += 1;
        prefetchPages(libc, step.fd, step.fileOffset, step.length).finally(() => {
          inFlight -= 1;
        });
      }
    },
  };
}

function* stepsOf(runs: Iterable<ImageFileExtent>): Generator<ImageFileExtent> {
  for (const { imageOffset, fileOffset, length, fd } of runs)
    for (let done = 0; done < length; done += STEP_BYTES)
      yield { imageOffset: imageOffset + done, length: Math.min(STEP_BYTES, length - done), fd, fileOffset: fileOffset + done };
}
