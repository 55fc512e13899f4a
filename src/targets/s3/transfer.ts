/** What the steps of one image's way to S3 share. */

import type { VirtualImage } from '../../image/contract.ts';
import type { Proof, TransferContext } from '../contract.ts';
import type { PaceWatch } from '../pace-watch.ts';
import type { S3TargetOptions } from './s3-options.ts';
import type { S3Session } from './s3-session.ts';
import type { UploadProgress } from './upload-progress.ts';
import type { Retries } from './with-retries.ts';

export interface Transfer {
  session: S3Session;
  options: S3TargetOptions;
  image: VirtualImage;
  context: TransferContext;
  pace: PaceWatch;
  progress: UploadProgress;
  /** Of this attempt alone; in the metadata of what it makes, it tells that from what others have made of the same disk. */
  nonce: string;
}

/** An image that is at its place. */
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

/** The object's user metadata: what is known before the first byte. */
export function metadataOf({ image, nonce }: Transfer): Record<string, string> {
  return {
    'disklift-virtual-size': `${image.virtualSizeBytes}`,
    'disklift-cluster-size': `${image.clusterSizeBytes}`,
    'disklift-fingerprint': image.fingerprint,
    'disklift-upload': nonce,
  };
}
