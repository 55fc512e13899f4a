/** The file of block hashes that `disklift stream --write-blocks` leaves. */

import { constants } from 'node:fs';
import fs from 'node:fs/promises';
import path from 'node:path';
import { abortable } from '../../common/abortable.ts';
import { writeDurably } from '../../common/durable-file.ts';
import { DiskliftError, errnoOf } from '../../common/errors.ts';
import type { Verify } from '../../image/prepare-image.ts';
import { isBlocksFile } from '../../sources/changed/block-hashes/local-file.ts';
import type { ComposedImage } from '../../wiring/stream.ts';
import type { ImageFlags } from '../options.ts';

type CheckedFlags = ImageFlags & { verify: Verify };

export interface BlocksOutput {
  /** Refuses before the scan what would fail after hours. @throws DiskliftError `InvalidRequest`, `Cancelled` */
  check(flags: CheckedFlags, signal: AbortSignal): Promise<void>;
  /** Call it after the seal. @throws DiskliftError `DestinationRejected`, `Cancelled` */
  write(image: Pick<ComposedImage, 'blocks'>, signal: AbortSignal): Promise<void>;
}

export function createBlocksOutput(file: string): BlocksOutput {
  const refuse = (why: string, cause?: unknown) => new DiskliftError('InvalidRequest', `--write-blocks ${file}: ${why}`, cause);

  const unwritten = (error: unknown) =>
    new DiskliftError(
      'DestinationRejected',
      `--write-blocks ${file}: cannot be written: ${errnoOf(error) ?? error}; the image is whole, and the next one must be full`,
      error,
    );

  function checkFlags({ verify, zeroDetection, verbatim, dataFile, rawDataFile }: CheckedFlags): void {
    if (verbatim || dataFile || rawDataFile) throw refuse('no delta can stand on an image of --verbatim, -d or -R');
    if (verify === 'never') throw refuse('a disk that does not show writes must be compared, so --verify never is not allowed');
    if (zeroDetection === 'extents') throw refuse('the data must be read, so --zero-detection extents is not allowed');
  }

  async function checkPlace(): Promise<void> {
    await fs.access(path.dirname(file), constants.W_OK).catch((error: unknown) => {
      throw refuse(`cannot be written: ${errnoOf(error) ?? error}; name a file in a directory that exists and is writable`, error);
    });
    if (!(await isBlocksFile(file))) throw refuse('exists and holds no block hashes, so it is not replaced; name another file');
  }

  return {
    async check(flags, signal) {
      checkFlags(flags);
      await abortable(checkPlace(), signal);
    },
    async write({ blocks }, signal) {
      const writing = writeDurably(file, { text: blocks().chunks(), mode: 0o644 }).catch((error: unknown) => {
        throw unwritten(error);
      });
      await abortable(writing, signal);
    },
  };
}
