/** Sends an image to S3 in this process, with small parts and short waits. */

import assert from 'node:assert/strict';
import { createBufferPool } from '../../src/common/buffers.ts';
import { systemClock } from '../../src/common/clock.ts';
import { DiskliftError } from '../../src/common/errors.ts';
import type { VirtualImage } from '../../src/image/contract.ts';
import { createNetworkAccess } from '../../src/network/destination-policy.ts';
import type { ExportTarget, Receipt, ResumeState, TransferContext } from '../../src/targets/contract.ts';
import type { S3Limits, S3TargetOptions } from '../../src/targets/s3/s3-options.ts';
import { createS3Target } from '../../src/targets/s3/s3-target.ts';
import { NEVER } from './image-in-process.ts';
import { BUCKET } from './s3-fake.ts';

export const SECRET = 'wJalrXUtnFEMIK7MDENG';
export const KEY = 'vms/fedora/disk.qcow2';
export const PART_BYTES = 256 * 1024;

export interface S3Sent {
  receipt?: Receipt;
  failure?: DiskliftError;
  progress: number[];
  /** All saved resume states, in order. */
  saved: (ResumeState | undefined)[];
  seals: number;
  tookMs: number;
}

export interface S3Sending {
  image: VirtualImage;
  /** URL of the S3 server. */
  url: string;
  options?: Omit<Partial<S3TargetOptions>, 'limits'>;
  limits?: Partial<S3Limits>;
  context?: Partial<TransferContext>;
}

export function s3Target({ url, options, limits }: Omit<S3Sending, 'image'>): ExportTarget {
  return createS3Target({
    endpoint: url,
    region: 'us-east-1',
    bucket: BUCKET,
    key: KEY,
    forcePathStyle: true,
    partSizeBytes: PART_BYTES,
    concurrency: 3,
    checksum: 'None',
    sha256Object: false,
    ifNotExists: false,
    credentials: async () => ({ accessKeyId: 'AKIA', secretAccessKey: SECRET }),
    access: createNetworkAccess(),
    clock: systemClock,
    buffers: createBufferPool(128 * 1024 * 1024),
    ...options,
    limits: { minPartBytes: 1, backoffMs: 10, lateMs: 250, ...limits },
  });
}

export async function sendToS3(sending: S3Sending): Promise<S3Sent> {
  const { image, context } = sending;
  const sent: S3Sent = { progress: [], saved: [], seals: 0, tookMs: 0 };
  const startMs = performance.now();
  try {
    sent.receipt = await s3Target(sending).send(image, {
      signal: NEVER,
      ...context,
      saveResume: async (state) => {
        sent.saved.push(state);
        await context?.saveResume?.(state);
      },
      progress: (bytes) => {
        assert.ok(bytes > (sent.progress.at(-1) ?? 0) && bytes <= image.sizeBytes, `${bytes} behind ${sent.progress}`);
        sent.progress.push(bytes);
        context?.progress?.(bytes);
      },
      seal: async () => {
        sent.seals += 1;
        return (await context?.seal?.()) ?? {};
      },
    });
  } catch (error) {
    assert.ok(error instanceof DiskliftError, error instanceof Error ? error.stack : String(error));
    assert.ok(!error.message.includes(SECRET), error.message);
    assert.ok(!error.message.includes('\n'), error.message);
    sent.failure = error;
  }
  sent.tookMs = performance.now() - startMs;
  return sent;
}
