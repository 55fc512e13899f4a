/** The extents of a disk as its server tells them: base:allocation. */

import { throwIfAborted } from '../../common/abortable.ts';
import { alignDown } from '../../common/bytes.ts';
import type { SourceExtent } from '../contract.ts';
import { blockStatusError } from './block-status-error.ts';
import type { NbdClient } from './nbd-client.ts';
import { LARGEST_BLOCK_SIZE_BYTES, STATE_ZERO, violation } from './protocol.ts';

export interface BlockStatusInput {
  client: Pick<NbdClient, 'blockStatus'>;
  name: string;
  sizeBytes: number;
  /** The server's number for base:allocation. */
  context: number;
  signal: AbortSignal;
}

/** What fits into 32 bits, in steps that suit every server. */
const LONGEST_QUESTION_BYTES = alignDown(2 ** 32 - 1, LARGEST_BLOCK_SIZE_BYTES);

/** Neighbours of one kind are one extent, however many the server makes of them. @throws DiskliftError `SourceReadError`, `Cancelled` */
export async function* blockStatusExtents({ client, name, sizeBytes, context, signal }: BlockStatusInput): AsyncGenerator<SourceExtent> {
  let last: SourceExtent | undefined;
  for (let at = 0; at < sizeBytes; ) {
    throwIfAborted(signal);
    const length = Math.min(sizeBytes - at, LONGEST_QUESTION_BYTES);
    const descriptors = await client.blockStatus({ offset: at, length, context }, signal);
    for (const extent of extentsIn(descriptors, { name, start: at, end: at + length, sizeBytes })) {
      at = extent.offset + extent.length;
      if (last?.kind === extent.kind) last.length += extent.length;
      else {
        if (last !== undefined) yield last;
        last = extent;
      }
    }
  }
  if (last !== undefined) yield last;
}

interface Question {
  name: string;
  start: number;
  end: number;
  sizeBytes: number;
}

/** The last extent may end behind what was asked for, as long as it is on the disk. */
function* extentsIn(descriptors: Buffer, { name, start, end, sizeBytes }: Question): Generator<SourceExtent> {
  let offset = start;
  for (let at = 0; at < descriptors.length; at += 8) {
    const length = descriptors.readUInt32BE(at);
    if (length === 0) throw blockStatusError(name, offset, violation('an extent of no length'));
    if (offset >= end) throw blockStatusError(name, offset, violation('an extent that was not asked for'));
    if (offset + length > sizeBytes)
      throw blockStatusError(name, offset, violation(`an extent up to ${offset + length} of ${sizeBytes} bytes`));
    const isZeros = (descriptors.readUInt32BE(at + 4) & STATE_ZERO) !== 0;
    yield { offset, length, kind: isZeros ? 'zeros' : 'data' };
    offset += length;
  }
}
