/** The bytes of one request, with what has to be said about them. Made once, however often they are sent. */

import { Readable } from 'node:stream';
import { MIB } from '../../common/bytes.ts';
import { type Checksum, type ChecksumKind, checksumOf } from './checksum.ts';
import { digestOf } from './hash-pieces.ts';

export interface Payload {
  bytes: Uint8Array;
  /** For the signature: the SHA-256, in hex, or that there is none. */
  contentSha256: string;
  checksum: Checksum;
}

/** "Authenticating Requests (AWS Signature Version 4)": TLS protects the bytes by itself. */
const UNSIGNED = 'UNSIGNED-PAYLOAD';

interface PayloadNeeds {
  /** Over plain http nothing but the signature shows that bytes were changed on their way. */
  isSigned: boolean;
  checksum: ChecksumKind;
  signal: AbortSignal;
}

/** @throws DiskliftError `Cancelled` */
export async function createPayload(bytes: Uint8Array, { isSigned, checksum, signal }: PayloadNeeds): Promise<Payload> {
  return {
    bytes,
    contentSha256: isSigned ? await digestOf('sha256', bytes, signal) : UNSIGNED,
    checksum: await checksumOf(checksum, bytes, signal),
  };
}

/** TLS encrypts what it is given in one go, into memory of its own. */
const SLICE_BYTES = MIB;

export interface PayloadBody {
  stream: Readable;
  /** Whether the connection has all bytes. */
  isTaken(): boolean;
}

/** @param onTake called whenever the connection takes some of the bytes */
export function bodyOf({ bytes }: Payload, onTake: () => void): PayloadBody {
  let at = 0;
  const stream = new Readable({
    highWaterMark: SLICE_BYTES,
    read() {
      onTake();
      this.push(bytes.subarray(at, at + SLICE_BYTES));
      at += SLICE_BYTES;
      if (at >= bytes.length) this.push(null);
    },
  });
  return { stream, isTaken: () => at >= bytes.length };
}
