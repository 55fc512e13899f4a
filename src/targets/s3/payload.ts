/** The bytes of one request, with what has to be said about them. Made once, however often they are sent. */

import { Readable } from 'node:stream';
import { nodeHttp } from '../../common/builtin.ts';
import { MIB } from '../../common/bytes.ts';
import { DiskliftError } from '../../common/errors.ts';
import type { PaceWatch } from '../pace-watch.ts';
import { BodyConnection } from './body-connection.ts';
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
  /** Whether the request was given all bytes. */
  isTaken(): boolean;
  /** Bytes that the kernel has taken from the connection. */
  sentBytes(): number;
  /** Rejects when the bytes cannot be had; never resolves. */
  broken: Promise<never>;
  /**
   * Call this when the request has ended, also after a failure, because a failed request does not close its body. Resolves when no read of
   * the image for this request is pending.
   */
  end(): Promise<void>;
}

export interface BodyNeeds {
  pace: PaceWatch;
  signal: AbortSignal;
}

export function bodyOf({ bytes, pieceBytes }: Payload, { pace, signal }: BodyNeeds): PayloadBody {
  let givenBytes = 0;
  const connection = new BodyConnection(pace);
  const ended = new AbortController();
  const reading = AbortSignal.any([signal, ended.signal]);
  async function* taken(): AsyncGenerator<Uint8Array> {
    connection.beginReading();
    for await (const read of bytes.pieces(reading)) {
      connection.endReading();
      for (let at = 0; at < read.length; at += pieceBytes) {
        const piece = read.subarray(at, at + pieceBytes);
        givenBytes += piece.length;
        yield piece;
      }
      connection.beginReading();
    }
    connection.endReading();
  }
  const stream = piped(Readable.from(taken(), { objectMode: false, highWaterMark: pieceBytes }), connection);
  const broken = new Promise<never>((_resolve, reject) => stream.once('error', reject));
  // Nobody may be waiting any more.
  broken.catch(() => {});
  const closed = new Promise<void>((resolve) => stream.once('close', resolve));
  return {
    stream,
    isTaken: () => givenBytes === bytes.sizeBytes,
    sentBytes: () => Math.min(givenBytes, connection.takenBytes()),
    broken,
    async end() {
      ended.abort(new DiskliftError('Cancelled', 'the request has ended'));
      connection.end();
      stream.destroy();
      await closed;
    },
  };
}

/** The SDK pipes the body to its request. `pipe`, unlike `pipeline`, leaves the stream open when the connection closes. */
function piped(stream: Readable, connection: BodyConnection): Readable {
  const pipe = stream.pipe.bind(stream);
  stream.pipe = (destination, options) => {
    if (destination instanceof nodeHttp().ClientRequest) connection.attach(destination);
    return pipe(destination, options).once('close', () => stream.destroy());
  };
  return stream;
}
