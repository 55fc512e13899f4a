/** The block hashes of a base, which are read in ranges while the disk is read: the file may be large. */

import { createHash } from 'node:crypto';
import { abortable } from '../../../common/abortable.ts';
import { KIB } from '../../../common/bytes.ts';
import { DiskliftError } from '../../../common/errors.ts';
import { type BlocksHeader, HASH_BYTES, HEADER_BYTES, parseHeader } from './blocks-file.ts';

/** A file of block hashes, wherever it lies. */
export interface RangedFile {
  /** For messages. */
  name: string;
  sizeBytes: number;
  /** SHA-256 of the whole file, in hex, where it is known from another place. */
  sha256?: string | undefined;
  /** @returns the bytes from `start` up to `end`; the errors are those of the place where the file lies */
  readRange(start: number, end: number, signal: AbortSignal): Promise<Uint8Array>;
  /** Never rejects. Absent where nothing is open. */
  close?(): Promise<void>;
}

/** The hashes of consecutive blocks. */
export interface HashWindow {
  firstBlock: number;
  endBlock: number;
  /** The hash of `firstBlock` and the ones behind it. */
  bytes: Uint8Array;
}

export interface BaseBlocks extends BlocksHeader {
  name: string;
  /** SHA-256, in hex, of the file without its last 32 bytes. */
  digest: string;
  /**
   * All windows in order.
   * @throws DiskliftError `ChangesRefused` after the last window where the bytes are not those of the checksums
   */
  windows(signal: AbortSignal): AsyncGenerator<HashWindow>;
}

/** The hashes of 8 GiB of a disk. */
const WINDOW_BYTES = 256 * KIB;

/** @throws DiskliftError `ChangesRefused` for a file that cannot be used; `Cancelled`; the errors of the file */
export async function openBaseBlocks(file: RangedFile, signal: AbortSignal): Promise<BaseBlocks> {
  const { name, sizeBytes: fileSizeBytes, sha256 } = file;
  const head = await readWhole(file, { start: 0, end: Math.min(HEADER_BYTES, fileSizeBytes) }, signal);
  const header = parseHeader({ bytes: head, fileSizeBytes, name });
  const hashesEnd = fileSizeBytes - HASH_BYTES;
  const tail = await readWhole(file, { start: hashesEnd, end: fileSizeBytes }, signal);
  const digest = Buffer.from(tail).toString('hex');
  return {
    ...header,
    name,
    digest,
    async *windows(signal) {
      const hash = createHash('sha256').update(head);
      for (let start = HEADER_BYTES; start < hashesEnd; start += WINDOW_BYTES) {
        const bytes = await readWhole(file, { start, end: Math.min(start + WINDOW_BYTES, hashesEnd) }, signal);
        hash.update(bytes);
        const firstBlock = (start - HEADER_BYTES) / HASH_BYTES;
        yield { firstBlock, endBlock: firstBlock + bytes.length / HASH_BYTES, bytes };
      }
      if (hash.copy().digest('hex') !== digest)
        throw new DiskliftError('ChangesRefused', `${name}: its bytes do not match its checksum; make a full image instead`);
      if (sha256 !== undefined && hash.update(tail).digest('hex') !== sha256)
        throw new DiskliftError(
          'ChangesRefused',
          `${name}: is another file than the one whose SHA-256 is known; make a full image instead`,
        );
    },
  };
}

interface Range {
  start: number;
  end: number;
}

async function readWhole(file: RangedFile, { start, end }: Range, signal: AbortSignal): Promise<Uint8Array> {
  const bytes = await abortable(file.readRange(start, end, signal), signal);
  if (bytes.length === end - start) return bytes;
  throw new DiskliftError(
    'ChangesRefused',
    `${file.name}: gave ${bytes.length} of the ${end - start} bytes from offset ${start} on; make a full image instead`,
  );
}
