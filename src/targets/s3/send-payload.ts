/** A request that carries bytes of the image. */

import type { Readable } from 'node:stream';
import type { PutObjectCommand, PutObjectCommandOutput, UploadPartCommand, UploadPartCommandOutput } from '@aws-sdk/client-s3';
import { DiskliftError } from '../../common/errors.ts';
import type { Checksum } from './checksum.ts';
import { bodyOf, type Payload } from './payload.ts';
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
