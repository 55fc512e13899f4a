/** Asserts that a truncated image is either refused or still has the whole disk. */

import assert from 'node:assert/strict';
import path from 'node:path';
import { DiskliftError } from '../../src/common/errors.ts';
import type { DiskFormat } from '../../src/formats/formats.ts';
import { openAsRequested, readDisk } from './open-image.ts';

export interface CutImage {
  path: string;
  format: DiskFormat;
  /** The content of the whole image. */
  content: Buffer;
  /** For messages. */
  story: string;
}

/** @returns 'whole', or the message of the error */
export async function judgeCutImage({ path: imagePath, format, content, story }: CutImage): Promise<string> {
  try {
    const disk = await openAsRequested(imagePath, format);
    try {
      assert.ok((await readDisk(disk)).equals(content), `is another disk: ${story}`);
      return 'whole';
    } finally {
      await disk.dispose();
    }
  } catch (error) {
    if (!(error instanceof DiskliftError)) throw error;
    assert.ok(error.code === 'SourceReadError' || error.code === 'FormatUnsupported', `${error.code}: ${error.message}: ${story}`);
    assert.ok(error.message.startsWith(path.dirname(imagePath)), error.message);
    return error.message;
  }
}
