/** From an address to a connection whose server has agreed to serve an export. */

import type { Clock } from '../../common/clock.ts';
import { DiskliftError } from '../../common/errors.ts';
import { withinLimit } from '../../common/within-limit.ts';
import type { NbdAddress } from './nbd-uri.ts';
import { type Agreement, negotiate } from './negotiate.ts';
import { Wire } from './wire.ts';

export interface HandshakeOptions {
  /** What messages call the disk by. */
  name: string;
  clock: Clock;
  signal: AbortSignal;
  /** Until the server has agreed, from before it is connected to. */
  connectMs: number;
}

export interface Agreed {
  wire: Wire;
  agreement: Agreement;
}

/** @throws DiskliftError as {@link negotiate}, with the disk's name before it; `SourceReadError` where no server answers in time */
export async function shakeHands(address: NbdAddress, options: HandshakeOptions): Promise<Agreed> {
  const { name, clock, signal, connectMs: limitMs } = options;
  let wire: Wire | undefined;
  try {
    wire = new Wire(address);
    const agreement = await withinLimit(converse(wire, address.exportName), {
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

/** Moves the bytes of the conversation until both have agreed. */
function converse(wire: Wire, exportName: string): Promise<Agreement> {
  const conversation = negotiate(exportName);
  return new Promise<Agreement>((resolve, reject) => {
    let awaited = Buffer.alloc(0);
    let filledBytes = 0;

    /** Takes steps until the next one has to wait for bytes. @returns whether one does */
    const proceed = (received: Buffer): boolean => {
      for (let next = conversation.next(received); ; next = conversation.next(received)) {
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
            throw new DiskliftError('SourceReadError', 'the server says more than it was asked');
        }
      },
      onFailure: reject,
    });
    proceed(awaited);
  });
}
