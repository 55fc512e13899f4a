/** The image that a user of the command line has named: a URL of HTTP, an object of S3, or a file. */

import { readFile } from 'node:fs/promises';
import { DiskliftError } from '../common/errors.ts';
import { awsEnvironment, proxyEnvironment } from '../config/environment.ts';
import { createNetworkAccess } from '../network/destination-policy.ts';
import type { NamedImage } from '../sources/remote/contract.ts';
import { isRemoteImage } from '../sources/remote/is-remote-image.ts';
import type { CommandContext } from './context.ts';

export interface ImageName {
  /** A URL of http, https or s3, or a path. */
  image: string;
  /** Files that the image names must lie beneath this URL or directory; beneath the image's own when left out. */
  beneath?: string | undefined;
  /** File of authorities in PEM, which are trusted instead of the system's. */
  caFile?: string | undefined;
}

/** @throws DiskliftError `InvalidRequest` */
export async function nameImage({ image, beneath, caFile }: ImageName, context: CommandContext): Promise<NamedImage> {
  // Loaded when it is needed: most commands start sooner without it.
  if (!isRemoteImage(image)) return (await import('../sources/remote/local-folder.ts')).nameLocalImage(image, beneath, context);
  const common = { access: createNetworkAccess(), proxy: proxyEnvironment(), clock: context.clock, random: Math.random };
  if (/^http/i.test(image)) {
    const { nameHttpImage } = await import('../sources/remote/http-folder.ts');
    return nameHttpImage(image, beneath, { ...common, tls: await authorities(caFile) });
  }
  const { nameS3Image } = await import('../sources/remote/s3-folder.ts');
  const { caBundle, ...server } = awsEnvironment();
  return nameS3Image(image, beneath, { ...common, ...server, tls: await authorities(caFile ?? caBundle) });
}

async function authorities(file: string | undefined): Promise<{ ca?: string }> {
  if (file === undefined) return {};
  try {
    return { ca: await readFile(file, 'utf8') };
  } catch (error) {
    throw new DiskliftError('InvalidRequest', `${file}: the file of authorities cannot be read`, error);
  }
}
