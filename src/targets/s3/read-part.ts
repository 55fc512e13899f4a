/** Reading ranges of the image. */

import { MIB } from '../../common/bytes.ts';
import type { VirtualImage } from '../../image/contract.ts';

/** Metadata is computed on the event loop, and the digest takes what was read in one piece before the next is asked for. */
const PIECE_BYTES = 4 * MIB;

/** Fills `bytes` from `offset` on, in image order. @throws as {@link VirtualImage.read} */
export async function readPart(image: VirtualImage, bytes: Uint8Array, offset: number, signal: AbortSignal): Promise<void> {
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) await image.read(bytes.subarray(at, at + PIECE_BYTES), offset + at, signal);
}
