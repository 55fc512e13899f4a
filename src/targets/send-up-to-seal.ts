/** An image goes out up to its last bytes; those follow only when the source is known to be unchanged. */

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
  /** What the peer holds already. It got the last bytes only behind a seal, so this may lie among them. */
  startBytes?: number;
  /** Resolves when `bytes` may be used again; with false when the peer wants no more. */
  write(bytes: Uint8Array): Promise<boolean>;
}

export interface Sealed {
  seal: Seal;
  /** What is still to be sent; empty when the peer had everything. */
  tail: Uint8Array;
}

/**
 * Reads the whole image, sends all but its end, and seals.
 * @returns undefined when the peer wanted no more
 * @throws what reading, writing and sealing throw; the peer then lacks the end
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
