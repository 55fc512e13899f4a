/** Where the parts are wired to one another: a source, its scan, the layout, the virtual image, a target. */

import { type ImageOptions, type PreparedImage, type PrepareOptions, prepareImage } from '../image/prepare-image.ts';
import type { Libc } from '../native/libc.ts';
import type { InUse } from '../sources/disk-in-use.ts';
import { openDisk } from '../sources/open-disk.ts';
import type { ExportTarget } from '../targets/contract.ts';
import { createStdoutTarget } from '../targets/stdout/stdout-target.ts';
import type { CommandContext } from './context.ts';

export const STDOUT_FD = 1;

/** Standard output as a target. */
export function composeStdoutTarget(libc: Libc | undefined): ExportTarget {
  return createStdoutTarget({ fd: STDOUT_FD, libc });
}

export interface DiskRequest extends ImageOptions, Pick<PrepareOptions, 'onOpen' | 'onScanned'> {
  path: string;
  /** 'allow' when left out. */
  inUse?: InUse | undefined;
}

/** The virtual image of the disk at a path that the user has named. @throws DiskliftError as {@link prepareImage} */
export function composeImage({ path, inUse, ...options }: DiskRequest, context: CommandContext): Promise<PreparedImage> {
  const { signal, warn } = context;
  return prepareImage({ ...options, signal, warn, openSource: () => openDisk(path, { ...context, inUse }) });
}
