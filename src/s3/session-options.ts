/** Options and limits of the way to an S3 server, whether an image is sent or read. */

import type { Clock } from '../common/clock.ts';
import type { NetworkAccess } from '../network/destination-policy.ts';
import type { TlsMaterial } from '../network/guarded-connection.ts';
import type { ProxySettings } from '../network/open-connection.ts';

/** Secret. */
export interface S3Credentials {
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken?: string | undefined;
}

/** The checksum that a client sends with a part. */
export type ChecksumKind = 'None' | 'CRC32' | 'CRC32C' | 'CRC64NVME';

export interface S3SessionOptions {
  /** A URL of http or https. Amazon's own for the region when left out. */
  endpoint?: string | undefined;
  region: string;
  bucket: string;
  key: string;
  /** Whether the bucket is in the path of the URL instead of its host. Most servers except Amazon's require that. */
  forcePathStyle: boolean;
  /** Sent with every part and proven by the server; many servers other than Amazon's reject requests that have one. */
  checksum: ChecksumKind;
  /**
   * Reads the credentials when an attempt begins, and again when the server reports that they have expired. Left out:
   * the SDK's own chain.
   */
  credentials?: (() => Promise<S3Credentials>) | undefined;
  tls?: TlsMaterial | undefined;
  access: NetworkAccess;
  proxy?: ProxySettings | undefined;
  clock: Clock;
}

export interface S3SessionLimits {
  /** Limit of opening a connection, TLS included. */
  connectMs: number;
  /** Limit of a time in which the server neither takes a byte nor answers. */
  silentMs: number;
}
