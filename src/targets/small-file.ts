/** Small files go to a destination like images: by the same target, with the same limits and the same proofs. */

import { createHash } from 'node:crypto';
import { DiskliftError } from '../common/errors.ts';
import type { VirtualImage } from '../image/contract.ts';
import { type ExportTarget, MAX_FILE_BYTES } from './contract.ts';

/** Bytes that a reader takes at a time. */
const CHUNK_BYTES = 65_536;

/**
 * Sends the bytes as if they were an image. No upload is left that a later attempt could resume.
 * @throws DiskliftError as {@link ExportTarget.send}
 */
export async function sendFile(target: ExportTarget, bytes: Uint8Array, signal: AbortSignal): Promise<void> {
  if (bytes.length > MAX_FILE_BYTES)
    throw new DiskliftError('InvalidRequest', `a file of ${bytes.length} bytes beside an image; at most ${MAX_FILE_BYTES} are allowed`);
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  await target.send(imageOf(bytes, sha256), { signal, saveResume: async () => {}, progress: () => {}, seal: async () => ({ sha256 }) });
}

function imageOf(bytes: Uint8Array, fingerprint: string): VirtualImage {
  return {
    sizeBytes: bytes.length,
    virtualSizeBytes: bytes.length,
    clusterSizeBytes: CHUNK_BYTES,
    fingerprint,
    async read(buffer, offset) {
      buffer.set(bytes.subarray(offset, offset + buffer.length));
    },
    async *stream({ start = 0, end = bytes.length }) {
      for (let at = start; at < end; at += CHUNK_BYTES) yield bytes.subarray(at, Math.min(at + CHUNK_BYTES, end));
    },
  };
}
