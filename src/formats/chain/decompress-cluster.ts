/** Decompresses clusters of qcow2 images (qcow2.rst, "Compressed Clusters Descriptor"). */

import { promisify } from 'node:util';
import zlib from 'node:zlib';
import type { Qcow2Header } from '../../qcow2/read/parse-header.ts';

const inflateRaw = promisify(zlib.inflateRaw) as (bytes: Uint8Array, options: zlib.ZlibOptions) => Promise<Buffer>;

/** QEMU compresses with a window of 4 KiB; a reader must accept the largest one. */
const INFLATE_OPTIONS = { finishFlush: zlib.constants.Z_SYNC_FLUSH, windowBits: 15 };

/**
 * The descriptor counts whole sectors, so other bytes may follow the compressed ones.
 * @returns the cluster, or undefined where the bytes do not hold a whole one
 */
export async function decompressCluster(
  bytes: Uint8Array,
  { compression, clusterSizeBytes }: Pick<Qcow2Header, 'compression' | 'clusterSizeBytes'>,
): Promise<Buffer | undefined> {
  const cluster = await (compression === 'zstd' ? unzstd(bytes, clusterSizeBytes) : inflate(bytes, clusterSizeBytes));
  return cluster?.length === clusterSizeBytes ? cluster : undefined;
}

/** The limit stops a small piece that would become gigabytes. */
async function inflate(bytes: Uint8Array, maxOutputLength: number): Promise<Buffer | undefined> {
  return inflateRaw(bytes, { ...INFLATE_OPTIONS, maxOutputLength }).catch(() => undefined);
}

/** A stream, because the one-call form refuses bytes behind the frame. */
function unzstd(bytes: Uint8Array, clusterSizeBytes: number): Promise<Buffer | undefined> {
  const decompressor = zlib.createZstdDecompress({ chunkSize: Math.max(64, clusterSizeBytes) });
  const pieces: Buffer[] = [];
  let sizeBytes = 0;
  return new Promise((resolve) => {
    const settle = () => {
      decompressor.destroy();
      resolve(sizeBytes >= clusterSizeBytes ? Buffer.concat(pieces).subarray(0, clusterSizeBytes) : undefined);
    };
    decompressor.on('data', (piece: Buffer) => {
      pieces.push(piece);
      sizeBytes += piece.length;
      if (sizeBytes >= clusterSizeBytes) settle();
    });
    decompressor.on('end', settle);
    decompressor.on('error', settle);
    decompressor.end(bytes);
  });
}
