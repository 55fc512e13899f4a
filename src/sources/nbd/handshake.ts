/** Connects to an NBD server and negotiates an export (fixed newstyle). */

import type { Clock } from '../../common/clock.ts';
import { DiskliftError } from '../../common/errors.ts';
import { withinLimit } from '../../common/time-limit.ts';
import type { NbdAddress } from './nbd-uri.ts';
import { type Agreement, negotiate, type Steps } from './negotiation.ts';
import { Wire } from './wire.ts';

export interface HandshakeOptions {
  /** The name of the disk in messages. */
  name: string;
  clock: Clock;
  signal: AbortSignal;
  /** Limit of connecting and negotiating together. */
  connectMs: number;
  /** The name of the dirty bitmap that the server must report. */
  bitmap?: string | undefined;
}

export interface Agreed {
  wire: Wire;
  agreement: Agreement;
}

/**
 * @throws DiskliftError as {@link negotiate}, with the disk's name in front; `SourceReadError` where no server answers
 * in time
 */
export async function shakeHands(address: NbdAddress, options: HandshakeOptions): Promise<Agreed> {
  const { name, clock, signal, connectMs: limitMs, bitmap } = options;
  let wire: Wire | undefined;
  try {
    wire = new Wire(address);
    const agreement = await withinLimit(exchange(wire, negotiate(address.exportName, bitmap)), {
      limitMs,
      clock,
      signal,
      late: () => new DiskliftError('SourceReadError', `the server did not shake hands within ${Math.round(limitMs / 1000)} s`),
    });
    return { wire, agreement };
  } catch (error) {
    wire?.break(new DiskliftError('Cancelled', 'no longer wanted'));
    throw named(name, error);
  }
}

function named(name: string, error: unknown): unknown {
  if (!(error instanceof DiskliftError) || error.code === 'Cancelled') return error;
  return new DiskliftError(error.code, `${name}: ${error.message}`, error, { retryable: error.retryable });
}

/** Moves the bytes of the negotiation until both sides have agreed. */
function exchange(wire: Wire, negotiation: Steps<Agreement>): Promise<Agreement> {
  return new Promise<Agreement>((resolve, reject) => {
    let awaited = Buffer.alloc(0);
    let filledBytes = 0;

    /** Takes steps until one must wait for bytes. @returns false when the negotiation has ended */
    const proceed = (received: Buffer): boolean => {
      for (let next = negotiation.next(received); ; next = negotiation.next(received)) {
        if (next.done === true) {
          resolve(next.value);
          return false;
        }
        if ('receiveBytes' in next.value) {
          awaited = Buffer.alloc(next.value.receiveBytes);
          filledBytes = 0;
          return true;
        }
        wire.write(next.value.send);
      }
    };

    wire.listen({
      onBytes(bytes) {
        for (let at = 0; at < bytes.length; ) {
          const count = bytes.copy(awaited, filledBytes, at);
          at += count;
          filledBytes += count;
          if (filledBytes === awaited.length && !proceed(awaited) && at < bytes.length)
            throw new DiskliftError('SourceReadError', 'the server sends more than was asked for');
        }
      },
      onFailure: reject,
    });
    proceed(awaited);
  });
}
