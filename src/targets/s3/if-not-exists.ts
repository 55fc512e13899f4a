/** Keeps an object that is at the key already. */

import { DiskliftError } from '../../common/errors.ts';
import type { ExpectedObject } from './expected-object.ts';
import { lookAtObject } from './look-at-object.ts';
import { findArrived } from './prove-object.ts';
import { s3ErrorStatus } from './s3-error.ts';
import type { Transfer } from './transfer.ts';

/** Amazon's hosts. They honour the condition on every request, and refuse a look at a missing object without `s3:ListBucket`. */
const AMAZON_HOST = /(^|\.)amazonaws\.com(\.cn)?$/;

/** The part of a request's input that makes the server check the key at the moment at which the object is made. */
export function conditionOf({ options }: Transfer): { IfNoneMatch?: '*' } {
  return options.ifNotExists ? { IfNoneMatch: '*' } : {};
}

/**
 * Looks at the key, because the server tells only at the end, and many servers ignore the condition. The object there may be the image
 * itself, as when the answer to an earlier attempt was lost.
 * @returns the image at the key; undefined where there is no object, or one may be replaced
 * @throws DiskliftError `DestinationRejected` for an object of other bytes; `CredentialsInvalid` where nothing would show one
 */
export async function requireAbsent(transfer: Transfer, expectedOf: () => Promise<ExpectedObject>): ReturnType<typeof findArrived> {
  const { options, session } = transfer;
  if (!options.ifNotExists) return undefined;
  const object = await lookAtObject(transfer);
  if (object === 'missing') return undefined;
  if (object === undefined) {
    if (options.endpoint === undefined || AMAZON_HOST.test(new URL(options.endpoint).hostname)) return undefined;
    const message = `${session.where}: ifNotExists needs a look at the key, because the server may ignore If-None-Match`;
    throw new DiskliftError('CredentialsInvalid', `${message}: allow s3:GetObject and s3:ListBucket`);
  }
  const found = await findArrived(transfer, expectedOf);
  if (found === undefined) throw existsError(transfer);
  return found;
}

function existsError({ session }: Transfer, cause?: unknown): DiskliftError {
  const own = cause === undefined ? '' : ', perhaps from a request of this export whose answer was lost';
  const message = `there is an object at the key already${own}; ifNotExists keeps it: use another key, such as one with {timestamp}`;
  return new DiskliftError('DestinationRejected', `${session.where}: ${message}`, cause);
}

/** @returns the failure of a request with the condition, with what the condition has to do with it */
export function explained(transfer: Transfer, error: unknown): unknown {
  if (!transfer.options.ifNotExists || !(error instanceof DiskliftError)) return error;
  const status = s3ErrorStatus(error);
  if (status === 412) return existsError(transfer, error);
  if (status !== 400 && status !== 501) return error;
  const message = `${error.message}; if the server does not know If-None-Match, leave ifNotExists out and use a key that is never used twice`;
  return new DiskliftError(error.code, message, error, { retryable: error.retryable, retryAfterMs: error.retryAfterMs });
}
