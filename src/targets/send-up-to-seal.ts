/**
 * Sends an image except for its last bytes. The caller sends those after the seal, when the source is known to be
 * unchanged.
 */

import { abortable } from '../common/abortable.ts';
import { allocateIoBuffer } from '../common/buffers.ts';
import { MIB } from '../common/bytes.ts';
import type { VirtualImage } from '../image/contract.ts';
import type { Seal, TransferContext } from './contract.ts';

/** Size of the largest cluster. `qemu-img check` does not notice an image that lacks less than one cluster. */
const SEALED_TAIL_BYTES = 2 * MIB;

/** @returns the offset from which on the image's bytes are held back until the source is sealed */
export function sealedTailStart({ sizeBytes }: Pick<VirtualImage, 'sizeBytes'>): number {
  return Math.max(0, sizeBytes - SEALED_TAIL_BYTES);
}

export interface Sending {
  image: VirtualImage;
  context: TransferContext;
  /**
   * Number of bytes that the peer already holds. It may include some of the last bytes, which an earlier attempt sent
   * behind its seal.
   */
  startBytes?: number;
  /** Resolves when `bytes` may be reused; with false when the peer accepts no more. */
  write(bytes: Uint8Array): Promise<boolean>;
}

export interface Sealed {
  seal: Seal;
  /** The bytes that remain to be sent. Empty when the peer had everything. */
  tail: Uint8Array;
}

/**
 * Reads the whole image, sends all but its end, and seals.
 * @returns undefined when the peer accepts no more
 * @throws the failures of reading, writing and sealing; the peer then lacks the end
 */
export async function sendUpToSeal({ image, context, startBytes = 0, write }: Sending): Promise<Sealed | undefined> {
  const { sizeBytes } = image;
  const tailStart = Math.max(startBytes, sealedTailStart(image));
  const tail = allocateIoBuffer(sizeBytes - tailStart);
  let at = startBytes;
  if (at > 0) context.progress(at);
  if (at < tailStart)
    for await (const chunk of image.stream({ start: at, end: tailStart, signal: context.signal })) {
      if (!(await write(chunk))) return undefined;
      at += chunk.length;
      context.progress(at);
    }
  if (tail.length > 0)
    for await (const chunk of image.stream({ start: tailStart, signal: context.signal })) {
      tail.set(chunk, at - tailStart);
      at += chunk.length;
    }
  return { seal: await abortable(context.seal(), context.signal), tail };
}
