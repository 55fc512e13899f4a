/** A request that is made again, within the attempt: gigabytes are not sent anew because one part of them failed. */

import { throwIfAborted } from '../../common/abortable.ts';
import { backoffDelayMs } from '../../common/backoff.ts';
import { DiskliftError } from '../../common/errors.ts';
import { isUploadGone, s3ErrorName } from './s3-error.ts';
import type { S3Limits, S3TargetOptions } from './s3-options.ts';
import { isServerSilent } from './within-silence.ts';

const MAX_BACKOFF_MS = 20_000;

/** A server that wants more is left to the next attempt: in that wait the export gives its slot back. */
const MAX_WAIT_MS = 5000;

/** Bound for a request that alone fails, while others of the same attempt succeed: as a multiple of {@link S3Limits.tries}. */
const MAX_ROUNDS = 4;

export interface Retries extends Pick<S3TargetOptions, 'clock' | 'random'> {
  limits: S3Limits;
  signal: AbortSignal;
  /**
   * Counts the requests beside this one that have succeeded. A success between two failures shows that the server is there, and the tries
   * are counted anew: some proxies cut a share of all large requests.
   */
  successes?: () => number;
}

/** @throws what `task` has thrown when it is not worth another try, or was the last one */
export async function withRetries<T>(
  task: () => Promise<T>,
  { clock, random = Math.random, limits, signal, successes = () => 0 }: Retries,
): Promise<T> {
  let first: unknown;
  let failuresInARow = 0;
  let seenSuccesses = successes();
  for (let failedAttempts = 1; ; failedAttempts += 1) {
    throwIfAborted(signal);
    try {
      return await task();
    } catch (error) {
      throwIfAborted(signal);
      first ??= error;
      // The probe after a silence says less than the request that was silent.
      if (isServerSilent(error)) throw first;
      failuresInARow = successes() > seenSuccesses ? 1 : failuresInARow + 1;
      seenSuccesses = successes();
      if (!isWorthIt(error) || failuresInARow >= limits.tries || failedAttempts >= limits.tries * MAX_ROUNDS) throw error;
      const { retryAfterMs } = error;
      if ((retryAfterMs ?? 0) > MAX_WAIT_MS) throw error;
      const backoff = { baseMs: limits.backoffMs, capMs: MAX_BACKOFF_MS };
      await clock.delay(backoffDelayMs(backoff, { failedAttempts, retryAfterMs }, random), signal);
    }
  }
}

/** What comes from the source, and what is gone from the server, is for the next attempt to deal with. */
function isWorthIt(error: unknown): error is DiskliftError {
  if (!(error instanceof DiskliftError) || !error.retryable || !['DestinationUnreachable', 'DestinationRejected'].includes(error.code))
    return false;
  return !isUploadGone(error) && s3ErrorName(error) !== 'InvalidPart';
}
