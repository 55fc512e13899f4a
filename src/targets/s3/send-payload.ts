/** A request that carries bytes of the image, and the connection that takes them. */

import type http from 'node:http';
import type { Socket } from 'node:net';
import { Readable } from 'node:stream';
import type { PutObjectCommand, PutObjectCommandOutput, UploadPartCommand, UploadPartCommandOutput } from '@aws-sdk/client-s3';
import { nodeHttp } from '../../common/builtin.ts';
import { MIB } from '../../common/bytes.ts';
import { DiskliftError } from '../../common/errors.ts';
import type { ChecksumKind } from '../../s3/session-options.ts';
import { type PaceWatch, takenBytes } from '../pace-watch.ts';
import { type PartBytes, sha256Of } from './part-bytes.ts';
import { type Checksum, checksumOf } from './part-proof.ts';
import type { Transfer } from './transfer.ts';

/** The part of a command's input that the payload decides. */
interface Body extends Checksum {
  Body: Readable;
  ContentLength: number;
}

type Sender = Pick<Transfer, 'session' | 'pace' | 'progress'>;

interface Sending<Command> {
  signal: AbortSignal;
  command(body: Body): Command;
}

/**
 * @returns the answer to the whole body
 * @throws DiskliftError `DestinationRejected` for an answer before the end of the body
 */
export function sendPayload(transfer: Sender, payload: Payload, sending: Sending<PutObjectCommand>): Promise<PutObjectCommandOutput>;
export function sendPayload(transfer: Sender, payload: Payload, sending: Sending<UploadPartCommand>): Promise<UploadPartCommandOutput>;
export async function sendPayload(
  { session, pace, progress }: Sender,
  payload: Payload,
  { signal, command }: Sending<PutObjectCommand | UploadPartCommand>,
): Promise<PutObjectCommandOutput | UploadPartCommandOutput> {
  return session.request(
    async ({ client, http, watch }) => {
      const body = bodyOf(payload, { pace, signal });
      const endProgress = progress.begin(body.sentBytes);
      watch(body.sentBytes);
      const request = command({ ...payload.checksum, Body: body.stream, ContentLength: payload.bytes.sizeBytes }) as PutObjectCommand;
      request.middlewareStack.add(
        (next) => (args) => {
          // The signer takes it from here, instead of computing it in one go.
          (args.request as { headers: Record<string, string> }).headers['x-amz-content-sha256'] = payload.contentSha256;
          return next(args);
        },
        { step: 'build', name: 'payloadHash' },
      );
      try {
        const received = await Promise.race([client.send(request, http), body.broken]);
        // Such an answer cannot confirm the whole body, and the buffer is still being read.
        if (!body.isTaken())
          throw new DiskliftError('DestinationRejected', `${session.where}: answered before it had all bytes`, undefined, {
            retryable: true,
          });
        return received;
      } finally {
        endProgress();
        await body.end();
      }
    },
    { signal, onFailed: payload.bytes.onFailedTry },
  );
}

export interface Payload {
  bytes: PartBytes;
  /** Bytes of one write to the connection. */
  pieceBytes: number;
  /** For the signature: the SHA-256 in hex, or UNSIGNED-PAYLOAD. */
  contentSha256: string;
  checksum: Checksum;
}

/** TLS encrypts each write into memory of its own, in every connection. */
const PIECE_BYTES = { signed: MIB, unsigned: MIB / 4 };

/** "Authenticating Requests (AWS Signature Version 4)": TLS protects the bytes by itself. */
const UNSIGNED = 'UNSIGNED-PAYLOAD';

interface PayloadNeeds {
  /** Over plain http only the signature reveals bytes that were changed on their way. */
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
  /** Rejects when the bytes cannot be read; never resolves. */
  broken: Promise<never>;
  /**
   * Call this when the request has ended, also after a failure, because a failed request does not close its body.
   * Resolves when no read of the image for this request is pending.
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
  // A rejection that nobody awaits is not an error.
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

/**
 * The SDK pipes the body to its request. `pipe`, unlike `pipeline`, leaves the stream open when the connection closes.
 */
function piped(stream: Readable, connection: BodyConnection): Readable {
  const pipe = stream.pipe.bind(stream);
  stream.pipe = (destination, options) => {
    if (destination instanceof nodeHttp().ClientRequest) connection.attach(destination);
    return pipe(destination, options).once('close', () => stream.destroy());
  };
  return stream;
}

/** More than the head of a request takes. */
const MAX_HEAD_BYTES = 4096;

/** More than TLS adds to a byte. */
const TLS_SHARE = 1 / 512;

class BodyConnection {
  private readonly pace: PaceWatch;
  private socket: Socket | undefined;
  /** Bytes that the connection had taken before this request. */
  private baseBytes = 0;
  private movedBytes = 0;
  private isReading = false;
  private hasEnded = false;
  private closeWait: (() => void) | undefined;

  constructor(pace: PaceWatch) {
    this.pace = pace;
  }

  attach(request: http.ClientRequest): void {
    const onSocket = (socket: Socket) => {
      this.socket = socket;
      this.baseBytes = takenBytes(socket);
      this.update();
    };
    if (request.socket !== null) onSocket(request.socket);
    else request.once('socket', onSocket);
    // The kernel has the whole body. From here on the limit of the answer applies.
    request.once('finish', () => this.end());
    request.once('close', () => this.end());
  }

  /** Body bytes that the kernel has taken; a little fewer, so that neither the request's head nor TLS is counted. */
  takenBytes(): number {
    const { socket } = this;
    if (socket !== undefined) this.movedBytes = Math.max(this.movedBytes, takenBytes(socket) - this.baseBytes);
    const bodyBytes = this.movedBytes - MAX_HEAD_BYTES;
    const share = socket !== undefined && 'encrypted' in socket ? 1 - TLS_SHARE : 1;
    return Math.max(0, Math.floor(bodyBytes * share));
  }

  /** The source is being read, so that the server waits. */
  beginReading(): void {
    this.isReading = true;
    this.update();
  }

  endReading(): void {
    this.isReading = false;
    this.update();
  }

  end(): void {
    this.hasEnded = true;
    this.update();
  }

  private update(): void {
    const { socket } = this;
    if (socket !== undefined && !this.isReading && !this.hasEnded) {
      this.closeWait ??= this.pace.open(() => takenBytes(socket));
      return;
    }
    this.closeWait?.();
    this.closeWait = undefined;
  }
}
