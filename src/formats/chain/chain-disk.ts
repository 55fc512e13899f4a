/** The disk of a chain of images that are read by ranges, compressed clusters included. */

import { throwIfAborted } from '../../common/abortable.ts';
import { GIB, MIB } from '../../common/bytes.ts';
import { DiskliftError } from '../../common/errors.ts';
import { mapConcurrently } from '../../common/limiter.ts';
import { TABLE_ENTRY_SIZE_BYTES } from '../../qcow2/constants.ts';
import type { DiskSource, SourceExtent, SourceIdentity } from '../../sources/contract.ts';
import { ExtentJoiner } from '../../sources/file-extents.ts';
import type { NamedImage } from '../../sources/remote/contract.ts';
import { EXPLICIT_ZEROS_NOTICE } from '../qcow2/unnamed-delta.ts';
import { readTables } from '../read-tables.ts';
import { type BlockCache, createBlockCache } from './block-cache.ts';
import { type ChainMap, type ChainRun, createChainMap } from './chain-map.ts';
import { decompressCluster } from './decompress-cluster.ts';
import { createLayerTables } from './layer-tables.ts';
import { type Layer, openChain, type Qcow2Layer } from './open-chain.ts';

/** Bytes of the disk whose data is asked for before a reader wants it. */
const AHEAD_BYTES = 8 * MIB;

/** The next data behind a longer hole is not looked for. */
const MAX_HOLE_AHEAD_BYTES = GIB;

/** Clusters that are decompressed at the same time; Node has as many threads by default. */
const CLUSTERS_IN_FLIGHT = 4;

/**
 * Opens the disk. The source disposes the image's folder, also after a failure.
 * @throws DiskliftError `FormatUnsupported`, `InvalidRequest` for a name that leads elsewhere; as opening the files
 */
export async function openChainDisk(named: NamedImage, format: 'raw' | 'qcow2', signal: AbortSignal): Promise<DiskSource> {
  try {
    return await openLayers(named, format, signal);
  } catch (error) {
    await named.folder.dispose();
    throw error;
  }
}

async function openLayers(named: NamedImage, format: 'raw' | 'qcow2', signal: AbortSignal): Promise<DiskSource> {
  const layers = await openChain(named, format, signal);
  const notice = await noticeOf(layers, signal);
  const disk = createChainDisk(layers, notice);
  return {
    ...disk,
    // Its files lie in the same folder, so they close with this one.
    openAgain: (signal) => openLayers(named, format, signal),
    async dispose() {
      await disk.dispose();
      await named.folder.dispose();
    },
  };
}

/** @param layers the named image first */
function createChainDisk(layers: readonly Layer[], notice: string | undefined): DiskSource {
  const [root] = layers as [Layer];
  const { name } = root.file;
  const { sizeBytes } = root;
  const closed = new AbortController();
  const map = createChainMap(layers, createLayerTables(closed.signal));
  const cache = createBlockCache(closed.signal);
  const readAhead = createReadAhead(map, cache, closed.signal);

  async function* extents(signal: AbortSignal): AsyncGenerator<SourceExtent> {
    throwIfAborted(signal);
    const joiner = new ExtentJoiner();
    for await (const { kind, offset, length } of map.runs(0, sizeBytes, signal)) {
      const complete = joiner.push({ offset, length, kind: kind === 'zeros' ? 'zeros' : 'data' });
      if (complete !== undefined) yield complete;
    }
    const last = joiner.end();
    if (last !== undefined) yield last;
  }

  async function read(buffer: Uint8Array, offset: number, signal: AbortSignal): Promise<void> {
    throwIfAborted(signal);
    const end = offset + buffer.length;
    if (end > sizeBytes)
      throw new DiskliftError('SourceChanged', `${name}: ends at offset ${sizeBytes}, and was to be read to offset ${end}`);
    const copies: Promise<void>[] = [];
    const compressed: CompressedRun[] = [];
    try {
      for await (const run of map.runs(offset, end, signal)) {
        const target = buffer.subarray(run.offset - offset, run.offset - offset + run.length);
        if (run.kind === 'zeros') target.fill(0);
        else if (run.kind === 'data') copies.push(cache.read(run.layer.file, target, run.hostOffset, signal));
        else {
          cache.readAhead(run.layer.file, run.hostOffset, run.hostLength);
          compressed.push(run);
        }
      }
    } finally {
      // After a failure of the map nobody waits for these.
      for (const copy of copies) copy.catch(() => {});
    }
    readAhead(offset, end);
    const decompressed = mapConcurrently(compressed, CLUSTERS_IN_FLIGHT, async (run) => {
      const cluster = await readCompressed(cache, run, signal);
      const from = run.offset - run.clusterOffset;
      buffer.set(cluster.subarray(from, from + run.length), run.offset - offset);
    });
    await Promise.all([...copies, decompressed]);
  }

  return {
    name,
    sizeBytes,
    format: root.format,
    ...(notice === undefined ? {} : { notice }),
    identityMissesWrites: layers.some(({ file }) => file.identityMissesWrites),
    extents,
    read,
    async identity() {
      const facts: SourceIdentity[] = await Promise.all(layers.map(({ file }) => file.identity()));
      return Object.fromEntries(facts.flatMap((each, index) => Object.entries(each).map(([key, value]) => [`${index}.${key}`, value])));
    },
    async dispose() {
      closed.abort(new DiskliftError('Cancelled', 'closed'));
    },
  };
}

type CompressedRun = Extract<ChainRun, { kind: 'compressed' }>;

async function readCompressed(cache: BlockCache, run: CompressedRun, signal: AbortSignal): Promise<Buffer> {
  const { layer, hostOffset, hostLength, clusterOffset } = run;
  const bytes = Buffer.allocUnsafe(hostLength);
  await cache.read(layer.file, bytes, hostOffset, signal);
  const cluster = await decompressCluster(bytes, layer.image.header);
  if (cluster !== undefined) return cluster;
  throw new DiskliftError(
    'SourceReadError',
    `${layer.file.name}: its compressed cluster at byte ${hostOffset} is damaged; ${clusterOffset} of the disk is lost`,
    undefined,
    { retryable: false },
  );
}

/** Asks for the data behind a read in order, one pass at a time. A read elsewhere begins anew. */
function createReadAhead({ sizeBytes, runs }: ChainMap, cache: BlockCache, closed: AbortSignal): (start: number, end: number) => void {
  let [from, to] = [0, 0];
  let isLooking = false;

  async function look(start: number): Promise<void> {
    let leftBytes = AHEAD_BYTES;
    for await (const run of runs(start, Math.min(sizeBytes, start + MAX_HOLE_AHEAD_BYTES), closed)) {
      const { offset, length, kind } = run;
      const taken = Math.min(length, leftBytes);
      if (kind !== 'zeros') {
        cache.readAhead(run.layer.file, run.hostOffset, kind === 'data' ? taken : run.hostLength);
        leftBytes -= taken;
      }
      to = offset + (kind === 'zeros' ? length : taken);
      if (leftBytes === 0) return;
    }
  }

  return (start, end) => {
    const isInOrder = start >= from && start <= to;
    from = start;
    if (!isInOrder) to = end;
    if (isLooking || to - end > AHEAD_BYTES / 2) return;
    isLooking = true;
    // The read that needs the bytes reports a failure.
    look(Math.max(to, end))
      .catch(() => {})
      .finally(() => {
        isLooking = false;
      });
  };
}

/** Reads all tables of an image without a backing file, until one has a zero cluster. */
async function noticeOf(layers: readonly Layer[], signal: AbortSignal): Promise<string | undefined> {
  const [root] = layers;
  if (layers.length !== 1 || root?.format !== 'qcow2' || root.image.header.version === 2) return undefined;
  return (await hasZeroFlag(root, signal)) ? EXPLICIT_ZEROS_NOTICE : undefined;
}

async function hasZeroFlag({ file, image, l2Offsets }: Qcow2Layer, signal: AbortSignal): Promise<boolean> {
  const tables = { offsets: l2Offsets, tableSizeBytes: image.header.clusterSizeBytes, signal };
  for await (const batch of readTables((...range) => file.read(...range), tables))
    for (const { bytes } of batch) if (hasZeroEntry(bytes)) return true;
  return false;
}

/** Bit 0 of an entry, unless bit 62 makes it the descriptor of a compressed cluster. */
function hasZeroEntry(bytes: Uint8Array): boolean {
  for (let at = TABLE_ENTRY_SIZE_BYTES - 1; at < bytes.length; at += TABLE_ENTRY_SIZE_BYTES)
    if (((bytes[at] as number) & 1) !== 0 && ((bytes[at - 7] as number) & 0x40) === 0) return true;
  return false;
}
