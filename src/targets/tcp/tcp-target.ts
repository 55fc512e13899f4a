/**
 * Sends to a TCP peer: bytes and an orderly close (Raw), or to a receiver that resumes and confirms by digest
 * (Acknowledged).
 */

import { promisify } from 'node:util';
import type { Clock } from '../../common/clock.ts';
import { DiskliftError } from '../../common/errors.ts';
import type { VirtualImage } from '../../image/contract.ts';
import { answerLimitMs } from '../../network/answer-limits.ts';
import type { NetworkAccess } from '../../network/destination-policy.ts';
import type { TlsMaterial } from '../../network/guarded-connection.ts';
import { networkError } from '../../network/network-error.ts';
import type { ExportTarget, Receipt, Seal, TransferContext } from '../contract.ts';
import { DEFAULT_PACE, type PaceLimits, PaceWatch } from '../pace-watch.ts';
import { type Sealed, sendUpToSeal } from '../send-up-to-seal.ts';
import { withLimit } from '../with-limit.ts';
import { type Confirmation, discardLine, helloLine, parseConfirmation, parseOffset, rereadAllowanceMs } from './messages.ts';
import { connectPeer, locationOf, type Peer } from './peer.ts';

interface TcpLimits extends PaceLimits {
  /** Limit of opening a connection, TLS included. */
  connectMs: number;
  /** Limit from our first line to the receiver's. */
  helloMs: number;
  /**
   * Limit from the last byte to the confirmation, or to the close: a peer may have to write the image to its disks
   * first, or convert it. `answerLimitMs` when left out.
   */
  answerMs?: number | undefined;
  /** Limit for a receiver to accept a discard and to close. */
  discardMs: number;
}

export interface TcpTargetOptions {
  /** A name or an address, IPv6 without brackets. */
  host: string;
  port: number;
  protocol: 'Raw' | 'Acknowledged';
  /** Plain TCP where it is left out. */
  tls?: TlsMaterial | undefined;
  access: NetworkAccess;
  clock: Clock;
  /** With `disk`, identifies the image when a sender connects again. */
  exportUid: string;
  disk: string;
  limits?: Partial<TcpLimits> | undefined;
}

const LIMITS: TcpLimits = { ...DEFAULT_PACE, connectMs: 30_000, helloMs: 30_000, discardMs: 1000 };

interface Transfer {
  options: TcpTargetOptions;
  limits: TcpLimits;
  where: string;
  peer: Peer;
  pace: PaceWatch;
  image: VirtualImage;
  context: TransferContext;
}

export function createTcpTarget(options: TcpTargetOptions): ExportTarget {
  const limits = { ...LIMITS, ...options.limits };
  const where = locationOf(options);
  const isAcknowledged = options.protocol === 'Acknowledged';
  return {
    /** Makes no connection: a plain receiver such as `nc -l` takes one only. */
    async check(signal) {
      const { host, access, clock } = options;
      try {
        access.checkHost(host);
        const looking = promisify(access.lookup)(host, { all: true });
        await withLimit(looking, { limitMs: limits.connectMs, message: `${where}: the name cannot be resolved`, clock, signal });
      } catch (error) {
        throw networkError(where, error);
      }
    },

    async send(image, context) {
      const peer = await connectPeer({ ...options, signal: context.signal, connectMs: limits.connectMs, speaks: isAcknowledged });
      const pace = new PaceWatch({ where, clock: options.clock, limits });
      try {
        const transfer = { options, limits, where, peer, pace, image, context };
        const receipt = await (isAcknowledged ? sendAcknowledged(transfer) : sendRaw(transfer));
        peer.close();
        return receipt;
      } catch (error) {
        peer.reset();
        throw error;
      } finally {
        pace.stop();
      }
    },
    // A receiver manages its own partial image: it resumes it, or drops it when another image arrives.
    abandon: async () => {},
  };
}

async function sendRaw({ limits, where, peer, pace, image, context }: Transfer): Promise<Receipt> {
  const write = (bytes: Uint8Array) => peer.sendBytes(bytes, pace);
  const sealed = await sendUpToSeal({ image, context, write });
  if (sealed === undefined || !(await write(sealed.tail)) || peer.hasSpoken())
    throw peer.unreachable('closed its side before it had the whole image');
  context.progress(image.sizeBytes);
  peer.end();
  await peer.ended(limits.answerMs ?? answerLimitMs(image));
  return receiptOf(where, image, sealed.seal, 'close');
}

async function sendAcknowledged(transfer: Transfer): Promise<Receipt> {
  const { options, limits, where, peer, pace, image, context } = transfer;
  const { exportUid, disk } = options;
  const { sizeBytes, fingerprint } = image;
  await peer.sendLine(helloLine({ exportUid, disk, sizeBytes, fingerprint }), limits.helloMs);
  const offset = parseOffset(await peer.readLine(limits.helloMs, 'answer to the hello'), sizeBytes, peer);
  const { seal, tail } = await sendFrom(offset, transfer);
  if (tail.length > 0 && !(await peer.sendBytes(tail, pace))) return hearEarly(transfer);
  context.progress(sizeBytes);
  const line = await peer.readLine((limits.answerMs ?? answerLimitMs(image)) + rereadAllowanceMs(offset), 'confirmation');
  const doubt = doubtIn(parseConfirmation(line, peer), { sizeBytes, sha256: seal.sha256 }, where);
  if (doubt !== undefined) {
    await requestDiscard(peer, limits.discardMs);
    throw doubt;
  }
  return receiptOf(where, image, seal, seal.sha256 === undefined ? 'close' : 'digest');
}

/**
 * Asks the receiver to remove its bytes. Without this line it would keep the wrong bytes, or resume behind them at the
 * next attempt. The caller reports the doubt as the error, so a failure of this request is ignored.
 */
async function requestDiscard(peer: Peer, limitMs: number): Promise<void> {
  try {
    await peer.sendLine(discardLine(), limitMs);
    peer.end();
    await peer.ended(limitMs);
  } catch (error) {
    if (!(error instanceof DiskliftError)) throw error;
  }
}

async function sendFrom(startBytes: number, transfer: Transfer): Promise<Sealed> {
  const { peer, pace, image, context } = transfer;
  const write = (bytes: Uint8Array) => peer.sendBytes(bytes, pace);
  return (await sendUpToSeal({ image, context, startBytes, write })) ?? hearEarly(transfer);
}

/** Reads an early line of the receiver, which is the reason of a refusal. */
async function hearEarly({ limits, where, peer }: Transfer): Promise<never> {
  parseConfirmation(await peer.readLine(limits.helloMs, 'taking the image'), peer);
  throw new DiskliftError('DestinationRejected', `${where}: the receiver confirmed before it had the whole image`, undefined, {
    retryable: true,
  });
}

/** @returns the reason why the receiver's confirmation does not prove the bytes that were sent */
function doubtIn(theirs: Confirmation, ours: { sizeBytes: number; sha256: string | undefined }, where: string): DiskliftError | undefined {
  if (theirs.sizeBytes !== ours.sizeBytes)
    return new DiskliftError('ChecksumMismatch', `${where}: the receiver has ${theirs.sizeBytes} bytes of ${ours.sizeBytes}`);
  if (ours.sha256 === undefined || theirs.sha256 === ours.sha256) return undefined;
  // Not retryable: the receiver would send no digest at the next attempt either.
  if (theirs.sha256 === undefined) return new DiskliftError('DestinationRejected', `${where}: the receiver confirms without a sha256`);
  return new DiskliftError('ChecksumMismatch', `${where}: the receiver has SHA-256 ${theirs.sha256}, and ${ours.sha256} was sent`);
}

function receiptOf(location: string, { sizeBytes }: VirtualImage, { sha256 }: Seal, proof: Receipt['proof']): Receipt {
  return { location, sizeBytes, ...(sha256 === undefined ? {} : { sha256 }), proof };
}
