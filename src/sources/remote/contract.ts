/**
 * The contract of files that are read by ranges, wherever they lie: an HTTP server, an S3 server, a local directory.
 *
 * 1. A caller opens a folder, which stands for the prefix that the user has named. No file outside of it can be opened.
 * 2. `open` pins one version of a file: its tag, its time and its length. All later reads are of that version.
 * 3. `read` may be called in parallel. A file that was replaced meanwhile fails with `SourceChanged`, and never gives
 *    bytes of two versions.
 * 4. Before a caller reports success, it takes `identity()`, which asks the server once more.
 * 5. The caller disposes the folder, which ends all its requests and closes all its files.
 *
 * All errors are DiskliftErrors: `SourceNotFound`, `SourcePermissionDenied`, `SourceReadError`, `SourceChanged`,
 * `Cancelled`. The reads have been tried again already where that makes sense.
 */

import type { SourceIdentity } from '../contract.ts';

export interface RangedFile {
  /** For messages: a path or a URL without its secrets. */
  readonly name: string;
  readonly sizeBytes: number;
  /** True where the server names no tag and no time of the file, so that only its length is compared. */
  readonly identityMissesWrites: boolean;
  /**
   * Fills the whole of `buffer` from `offset` on.
   * @throws DiskliftError; after `Cancelled` the buffer may still be written to
   */
  read(buffer: Uint8Array, offset: number, signal: AbortSignal): Promise<void>;
  /** @throws DiskliftError `SourceChanged` where the file was replaced */
  identity(): Promise<SourceIdentity>;
}

export interface ImageFolder {
  /**
   * @param path of a file beneath the folder, with slashes between its names
   * @throws DiskliftError `SourceNotFound` where no file has the path
   */
  open(path: string, signal: AbortSignal): Promise<RangedFile>;
  /** The file in messages. */
  nameOf(path: string): string;
  /** Never rejects. */
  dispose(): Promise<void>;
}

/** An image that a user has named. */
export interface NamedImage {
  folder: ImageFolder;
  /** Beneath the folder. */
  path: string;
}
