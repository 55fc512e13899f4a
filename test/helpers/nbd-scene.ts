/** A disk of random bytes on an NBD server, which answers truthfully by default. */

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import type { DiskSource } from '../../src/sources/contract.ts';
import { NEVER } from './image-in-process.ts';
import { CONTEXT, type NbdFakeOptions, type NbdRequest, startNbdFake } from './nbd-fake.ts';
import { DONE, dataChunk, statusChunk } from './nbd-replies.ts';
import { openNbd } from './nbd-servers.ts';

export const SIZE_BYTES = 65_536;
export const TRUTH = randomBytes(SIZE_BYTES);

export function bytesOf({ offset, length }: NbdRequest): Buffer {
  return TRUTH.subarray(offset, offset + length);
}

export function answerTruly(request: NbdRequest): Uint8Array {
  const facts = { cookie: request.cookie, flags: DONE };
  return request.type === 7 ? statusChunk(CONTEXT, [request.length, 0], facts) : dataChunk(request.offset, bytesOf(request), facts);
}

/** Opens the disk of a fake server, and asserts that the client follows the protocol. */
export async function withNbdFake(
  socketPath: string,
  options: Partial<NbdFakeOptions>,
  use: (source: DiskSource, requests: NbdRequest[]) => Promise<void>,
): Promise<void> {
  await using fake = await startNbdFake(socketPath, { sizeBytes: SIZE_BYTES, answer: answerTruly, ...options });
  const source = await openNbd(fake, { silenceMs: 3000 });
  try {
    await use(source, fake.requests);
  } finally {
    await source.dispose();
  }
  assert.deepEqual(fake.complaints, []);
}

/** Asserts that an error reports a failed read at `offset`, with its reason. */
export function failedAt(offset: number, reason: RegExp, doing = 'cannot read') {
  return (error: Error & { code?: string }): true => {
    assert.equal(error.code, 'SourceReadError', error.message);
    assert.match(error.message, new RegExp(`^nbd\\+unix:///disk\\?socket=\\S+: ${doing} at offset ${offset}: `));
    assert.match(error.message, reason);
    return true;
  };
}

export async function extentsOf(source: DiskSource): Promise<[offset: number, length: number, kind: string][]> {
  const extents: [number, number, string][] = [];
  for await (const { offset, length, kind } of source.extents(NEVER)) extents.push([offset, length, kind]);
  return extents;
}
