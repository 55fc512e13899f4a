/** State that the steps of one image's way to S3 share, the retries of their requests, and the progress. */

import { throwIfAborted } from '../../common/abortable.ts';
import { DiskliftError } from '../../common/errors.ts';
import { retry } from '../../common/retry.ts';
import type { VirtualImage } from '../../image/contract.ts';
import { isServerSilent } from '../../s3/request-limits.ts';
import { isUploadGone, s3ErrorName } from '../../s3/s3-error.ts';
import type { S3Session } from '../../s3/s3-session.ts';
import type { Proof, TransferContext } from '../contract.ts';
import type { PaceWatch } from '../pace-watch.ts';
import type { S3Limits, S3TargetOptions } from './s3-options.ts';

export interface Transfer {
  session: S3Session<S3Limits>;
  options: S3TargetOptions;
  image: VirtualImage;
  context: TransferContext;
  pace: PaceWatch;
  progress: UploadProgress;
  /**
   * Random text of this attempt. In an object's metadata it distinguishes the object from those that other attempts
   * made of the same disk.
   */
  nonce: string;
}

/** The proof that an image is at its place. */
export interface Arrival {
  etag?: string | undefined;
  sha256?: string | undefined;
  proof: Proof;
}

export function retriesOf({ session, options, context }: Transfer): Retries {
  return { clock: options.clock, random: options.random, limits: session.limits, signal: context.signal };
}

/** 128 bits, in hex. */
export function createNonce(random: () => number): string {
  const word = () => Math.floor(random() * 2 ** 32);
  return Array.from({ length: 4 }, () => word().toString(16).padStart(8, '0')).join('');
}

/** The object's user metadata: facts that are known before the first byte. */
export function metadataOf({ image, nonce }: Transfer): Record<string, string> {
  return {
    'disklift-virtual-size': `${image.virtualSizeBytes}`,
    'disklift-cluster-size': `${image.clusterSizeBytes}`,
    'disklift-fingerprint': image.fingerprint,
    'disklift-upload': nonce,
  };
}

const MAX_BACKOFF_MS = 20_000;

/**
 * Longest wait that a server may require here. The next attempt honours a longer one, and the export gives its slot
 * back in that wait.
 */
const MAX_WAIT_MS = 5000;

/**
 * Bound for a request that alone fails, while others of the same attempt succeed: as a multiple of {@link
 * S3Limits.tries}.
 */
const MAX_ROUNDS = 4;

export interface Retries extends Pick<S3TargetOptions, 'clock' | 'random'> {
  limits: S3Limits;
  signal: AbortSignal;
  /**
   * Counts the requests beside this one that have succeeded. A success between two failures shows that the server is
   * there, and the tries are counted anew: some proxies cut a share of all large requests.
   */
  successes?: () => number;
}

/** @throws the failure of `task` that is not retryable, or the last one */
export async function withRetries<T>(
  task: () => Promise<T>,
  { clock, random = Math.random, limits, signal, successes = () => 0 }: Retries,
): Promise<T> {
  let first: unknown;
  let failuresInARow = 0;
  let seenSuccesses = successes();
  function isWorthRetry(error: unknown, failedAttempts: number): boolean {
    first ??= error;
    if (isServerSilent(error)) return false;
    failuresInARow = successes() > seenSuccesses ? 1 : failuresInARow + 1;
    seenSuccesses = successes();
    if (!isRetryable(error) || failuresInARow >= limits.tries || failedAttempts >= limits.tries * MAX_ROUNDS) return false;
    return (error.retryAfterMs ?? 0) <= MAX_WAIT_MS;
  }
  throwIfAborted(signal);
  try {
    const backoff = { baseMs: limits.backoffMs, capMs: MAX_BACKOFF_MS };
    return await retry(task, { isRetryable: isWorthRetry, backoff, clock, random, signal });
  } catch (error) {
    // The probe after a silence reports less than the request that was silent.
    throw isServerSilent(error) ? first : error;
  }
}

/** The next attempt handles failures of the source, and uploads and parts that are gone from the server. */
function isRetryable(error: unknown): error is DiskliftError {
  if (!(error instanceof DiskliftError) || !error.retryable || !['DestinationUnreachable', 'DestinationRejected'].includes(error.code))
    return false;
  return !isUploadGone(error) && s3ErrorName(error) !== 'InvalidPart';
}

/** The progress of one transfer to S3: the parts that have arrived, and the bytes of those that are on their way. */

export class UploadProgress {
  private readonly report: (sentBytes: number) => void;
  private readonly sizeBytes: number;
  private arrivedBytes = 0;
  private reportedBytes = 0;
  private readonly sending = new Set<() => number>();

  constructor(report: (sentBytes: number) => void, sizeBytes: number) {
    this.report = report;
    this.sizeBytes = sizeBytes;
  }

  /** A request begins to carry bytes. @returns ends the request, whose bytes count no longer */
  begin(sentBytes: () => number): () => void {
    this.sending.add(sentBytes);
    return () => this.sending.delete(sentBytes);
  }

  arrive(sizeBytes: number): void {
    this.arrivedBytes += sizeBytes;
    this.update();
  }

  /** A second upload of the same attempt begins. */
  restart(): void {
    this.arrivedBytes = 0;
  }

  /** Reports growth only: a part that is sent again does not take progress back. */
  update(): void {
    let bytes = this.arrivedBytes;
    for (const sentBytes of this.sending) bytes += sentBytes();
    bytes = Math.min(bytes, this.sizeBytes);
    if (bytes <= this.reportedBytes) return;
    this.reportedBytes = bytes;
    this.report(bytes);
  }
}
