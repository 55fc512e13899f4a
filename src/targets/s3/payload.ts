/** The bytes of one request, with what has to be said about them. Made once, however often they are sent. */

import { Readable } from 'node:stream';
import { MIB } from '../../common/bytes.ts';
import { DiskliftError } from '../../common/errors.ts';
import { type Checksum, type ChecksumKind, checksumOf } from './checksum.ts';
import { sha256Of } from './hash-pieces.ts';
import type { PartBytes } from './part-bytes.ts';

export interface Payload {
  bytes: PartBytes;
  /** What a connection is given in one go. */
  pieceBytes: number;
  /** For the signature: the SHA-256, in hex, or that there is none. */
  contentSha256: string;
  checksum: Checksum;
}

/** TLS encrypts what it is given in one go, into memory of its own, in each of the connections. */
const PIECE_BYTES = { signed: MIB, unsigned: MIB / 4 };

/** "Authenticating Requests (AWS Signature Version 4)": TLS protects the bytes by itself. */
const UNSIGNED = 'UNSIGNED-PAYLOAD';

interface PayloadNeeds {
  /** Over plain http nothing but the signature shows that bytes were changed on their way. */
  isSigned: boolean;
  checksum: ChecksumKind;
  signal: AbortSignal;
}

/** @throws DiskliftError `Cancelled`, or as {@link PartBytes.pieces} */
export async function createPayload(bytes: PartBytes, { isSigned, checksum, signal }: PayloadNeeds): Promise<Payload> {
  return {
    bytes,
    pieceBytes: isSigned ? PIECE_BYTES.signed : PIECE_BYTES.unsigned,
    contentSha256: isSigned ? await sha256Of(bytes, signal) : UNSIGNED,
    checksum: await checksumOf(checksum, bytes, signal),
  };
}

export interface PayloadBody {
  stream: Readable;
  /** Whether the connection has all bytes. */
  isTaken(): boolean;
  /** Rejects when the bytes cannot be had; never resolves. */
  broken: Promise<never>;
  /**
   * Call this when the request has ended, also after a failure, because a failed request does not close its body. Resolves when no read of
   * the image for this request is pending.
   */
  end(): Promise<void>;
}

/** @param onTake called whenever the connection takes some of the bytes */
export function bodyOf({ bytes, pieceBytes }: Payload, onTake: () => void, signal: AbortSignal): PayloadBody {
  let takenBytes = 0;
  const ended = new AbortController();
  const reading = AbortSignal.any([signal, ended.signal]);
  async function* taken(): AsyncGenerator<Uint8Array> {
    for await (const read of bytes.pieces(reading))
      for (let at = 0; at < read.length; at += pieceBytes) {
        const piece = read.subarray(at, at + pieceBytes);
        onTake();
        takenBytes += piece.length;
        yield piece;
      }
  }
  const stream = destroyedByItsReader(Readable.from(taken(), { objectMode: false, highWaterMark: pieceBytes }));
  const broken = new Promise<never>((_resolve, reject) => stream.once('error', reject));
  // Nobody may be waiting any more.
  broken.catch(() => {});
  const closed = new Promise<void>((resolve) => stream.once('close', resolve));
  return {
    stream,
    isTaken: () => takenBytes === bytes.sizeBytes,
    broken,
    async end() {
      ended.abort(new DiskliftError('Cancelled', 'the request has ended'));
      stream.destroy();
      await closed;
    },
  };
}

/** The SDK calls `pipe`, which, unlike `pipeline`, leaves the stream open when the connection closes. */
function destroyedByItsReader(stream: Readable): Readable {
  const pipe = stream.pipe.bind(stream);
  stream.pipe = (destination, options) => pipe(destination, options).once('close', () => stream.destroy());
  return stream;
}
