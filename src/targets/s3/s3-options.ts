/** Options and limits of an S3 destination. */

import type { BufferPool } from '../../common/buffers.ts';
import { MIB } from '../../common/bytes.ts';
import type { S3SessionLimits, S3SessionOptions } from '../../s3/session-options.ts';
import { DEFAULT_PACE, type PaceLimits } from '../pace-watch.ts';
import { MIN_PART_BYTES } from './plan-parts.ts';

export interface S3TargetOptions extends S3SessionOptions {
  /** Planned from the image's size when left out. */
  partSizeBytes?: number | undefined;
  /** The server's maximum number of parts; 10,000, as of Amazon S3, when left out. */
  maxParts?: number | undefined;
  /** Parts that are on their way at once. */
  concurrency: number;
  /** Whether the image's SHA-256 is put beside it, as `KEY.sha256`. */
  sha256Object: boolean;
  /** Whether an object of other bytes at the key is kept, and the export fails. */
  ifNotExists: boolean;
  /** Shared by all transfers of the process. */
  buffers: BufferPool;
  /** Gives numbers from 0 up to, but not including, 1. */
  random?: (() => number) | undefined;
  limits?: Partial<S3Limits> | undefined;
}

export interface S3Limits extends Omit<PaceLimits, 'idleMs'>, S3SessionLimits {
  /** Limit of the answer to CompleteMultipartUpload. A server may have to copy all parts. */
  answerMs: number;
  /** Limit of reading a part of the object back, in all; `readBackLimitMs` when left out. */
  readBackMs?: number;
  /**
   * Tries of a request in a row before the attempt fails. The count begins again when another part arrives in between.
   */
  tries: number;
  /** Longest wait before the second try. */
  backoffMs: number;
  /** Time in which a server may still carry out a request after its connection was lost. */
  lateMs: number;
  /** Smallest size of all parts except the last. */
  minPartBytes: number;
  /** Largest part that is held in memory. Larger parts are read while they are sent. */
  maxBufferBytes: number;
}

export const S3_LIMITS: S3Limits = {
  connectMs: 30_000,
  silentMs: DEFAULT_PACE.idleMs,
  minRateBytesPerSecond: DEFAULT_PACE.minRateBytesPerSecond,
  rateWindowMs: DEFAULT_PACE.rateWindowMs,
  answerMs: 600_000,
  tries: 4,
  backoffMs: 1000,
  // A cancelled export also waits this long, and should end within a second.
  lateMs: 400,
  minPartBytes: MIN_PART_BYTES,
  // Images of up to 625 GiB have smaller ones.
  maxBufferBytes: 64 * MIB,
};
