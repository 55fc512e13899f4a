/** Sends one request with a whole image, and waits for the answer. */

import { abortable } from '../../common/abortable.ts';
import type { Clock } from '../../common/clock.ts';
import { DiskliftError } from '../../common/errors.ts';
import type { VirtualImage } from '../../image/contract.ts';
import { answerLimitMs } from '../../network/answer-limits.ts';
import type { NetworkAccess } from '../../network/destination-policy.ts';
import { networkError } from '../../network/network-error.ts';
import type { ProxySettings } from '../../network/open-connection.ts';
import type { Seal, TransferContext } from '../contract.ts';
import { type PaceLimits, PaceWatch } from '../pace-watch.ts';
import { sendUpToSeal } from '../send-up-to-seal.ts';
import { withLimit } from '../with-limit.ts';
import type { Answer } from './answer.ts';
import { Exchange } from './exchange.ts';
import { isNetworkError, openRequest, type RequestFacts, withConnection } from './open-request.ts';
import { publicUrl } from './origin.ts';

export interface UploadLimits extends PaceLimits {
  /** Limit of opening a connection, TLS included. */
  connectMs: number;
  /** Wait for a 100 Continue. Many servers never send it. */
  continueMs: number;
  /**
   * Limit from the last byte to the answer: a server may have to write the image to its disks first, or convert it.
   * `answerLimitMs` when left out.
   */
  answerMs?: number | undefined;
}

export interface Upload extends Omit<RequestFacts, 'sizeBytes'> {
  access: NetworkAccess;
  proxy: ProxySettings;
  image: VirtualImage;
  context: TransferContext;
  clock: Clock;
  limits: UploadLimits;
}

/** How an upload ended. */
export interface UploadEnd {
  /**
   * The answer, or the failure that replaced it after the whole image was sent. In both cases the server may have the
   * image.
   */
  answer: Answer | DiskliftError;
  /** Filled when the body has reached the seal. */
  seal: Seal;
}

/** @throws DiskliftError `DestinationUnreachable`; failures of reading or sealing the image; and as openConnection */
export function sendUpload(upload: Upload): Promise<UploadEnd> {
  const { origin, image, context, clock, limits } = upload;
  const { sizeBytes } = image;
  const { signal } = context;
  return withConnection({ ...upload, connectMs: limits.connectMs, signal }, async (connection) => {
    const { socket, mayQuote } = connection;
    const pace = new PaceWatch({ where: publicUrl(origin), clock, limits });
    let exchange: Exchange | undefined;
    try {
      const request = openRequest({ ...upload, sizeBytes }, connection);
      exchange = new Exchange({ request, socket, mayQuote, sizeBytes, pace, clock, signal });
      if (upload.expectContinue) await leaveToSend(exchange, upload);
      const seal = await sendBody(exchange, upload);
      return { answer: await answerOf(exchange, upload), seal };
    } finally {
      pace.stop();
      exchange?.destroy();
    }
  });
}

/** @returns the failure instead of an answer where the whole image was sent, unless the transfer was cancelled */
async function answerOf(exchange: Exchange, { origin, image, context, clock, limits }: Upload): Promise<UploadEnd['answer']> {
  const where = publicUrl(origin);
  const { answerMs: limitMs = answerLimitMs(image) } = limits;
  try {
    return await withLimit(exchange.answered, { limitMs, message: `${where}: no answer`, clock, signal: context.signal });
  } catch (error) {
    const isFailure = error instanceof DiskliftError || isNetworkError(error);
    if (context.signal.aborted || !exchange.isSent || !isFailure) throw error;
    return networkError(where, error);
  }
}

/** Stops when the server has answered. @returns the seal, unless it stopped before it */
async function sendBody(exchange: Exchange, { image, context }: Upload): Promise<Seal> {
  if (exchange.hasAnswered) return {};
  const sealed = await sendUpToSeal({ image, context, write: (bytes) => exchange.write(bytes) });
  if (sealed === undefined) return {};
  if (await exchange.write(sealed.tail)) {
    exchange.end();
    context.progress(exchange.writtenBytes);
  }
  return sealed.seal;
}

/** Waits until the server sends 100 Continue, answers, or exceeds `continueMs`. */
async function leaveToSend({ continued, answered }: Exchange, { clock, context, limits }: Upload): Promise<void> {
  const stop = new AbortController();
  try {
    await abortable(Promise.race([continued, answered, clock.delay(limits.continueMs, stop.signal)]), context.signal);
  } finally {
    stop.abort(new DiskliftError('Cancelled', 'heard'));
  }
}
