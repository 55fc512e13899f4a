/** Images on real servers, opened as sources. */

import path from 'node:path';
import { systemClock } from '../../src/common/clock.ts';
import { openChainDisk } from '../../src/formats/chain/chain-disk.ts';
import { createNetworkAccess } from '../../src/network/destination-policy.ts';
import type { S3Credentials, S3SessionLimits } from '../../src/s3/session-options.ts';
import type { DiskSource } from '../../src/sources/contract.ts';
import type { NamedImage } from '../../src/sources/remote/contract.ts';
import { nameHttpImage } from '../../src/sources/remote/http-folder.ts';
import type { HttpRangeLimits } from '../../src/sources/remote/http-ranges.ts';
import type { RetryLimits } from '../../src/sources/remote/range-server.ts';
import { nameS3Image } from '../../src/sources/remote/s3-folder.ts';
import { NEVER } from './image-in-process.ts';
import { type Nginx, startNginx } from './nginx.ts';

const ACCESS = { access: createNetworkAccess(), clock: systemClock, random: () => 0.5 };

const SHORT_WAITS: RetryLimits = { tries: 3, backoffMs: 10, maxDelayMs: 200 };

export function nameHttp(url: string, limits: Partial<HttpRangeLimits> = {}, beneath?: string): NamedImage {
  return nameHttpImage(url, beneath, { ...ACCESS, retries: SHORT_WAITS, limits });
}

export interface S3Place {
  endpoint: string;
  keys: S3Credentials;
  limits?: Partial<S3SessionLimits>;
}

export function nameS3(url: string, { endpoint, keys, limits }: S3Place): NamedImage {
  return nameS3Image(url, undefined, {
    ...ACCESS,
    retries: SHORT_WAITS,
    limits,
    endpoint,
    region: 'us-east-1',
    credentials: async () => keys,
  });
}

export function openNamed(named: NamedImage, format: 'raw' | 'qcow2' = 'qcow2'): Promise<DiskSource> {
  return openChainDisk(named, format, NEVER);
}

export interface ServedDirectory extends AsyncDisposable {
  /** Ends with a slash. */
  url: string;
}

/** Serves the files of a directory by a real nginx. @param temp for the server's own files */
export async function serveDirectory(directory: string, temp: string, locations = ''): Promise<ServedDirectory> {
  const nginx: Nginx = await startNginx(temp, `location /images/ { alias ${path.resolve(directory)}/; ${locations} }`);
  return { url: `${nginx.url}/images/`, [Symbol.asyncDispose]: () => nginx[Symbol.asyncDispose]() };
}
