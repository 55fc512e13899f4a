/**
 * Checks a qcow2 image as deeply as `qemu-img check`: every table, every entry, and every refcount against the number
 * of entries that use the cluster. Memory is bounded: clusters are counted in windows, two bytes each.
 */

import { setImmediate as nextTurn } from 'node:timers/promises';
import { countNotAbove } from '../../common/columns.ts';
import { DiskliftError } from '../../common/errors.ts';
import { guestSizeBytes, wholeSectors } from '../../qcow2/read/foreign-image.ts';
import type { Qcow2Header } from '../../qcow2/read/parse-header.ts';
import { addReferences, type CountWindow, parseRefcountBlock } from '../../qcow2/read/refcounts.ts';
import { visitBitmapTable } from '../../qcow2/read/snapshots.ts';
import { type EntryVisitor, visitL2Table } from '../../qcow2/read/table-references.ts';
import type { RangedFile } from '../../sources/remote/contract.ts';
import { readTables } from '../read-tables.ts';
import { compareCounts, type WrongRange } from './compare-counts.ts';
import { Problems } from './problems.ts';
import { type CheckedFile, type CheckLayout, piecesOf, readLayout } from './read-layout.ts';

/** Clusters that are counted in one pass through the tables: 64 MiB of columns; 1 TiB with clusters of 64 KiB. */
const WINDOW_CLUSTERS = 2 ** 24;

/** Each window reads all tables again. QEMU itself needs hours for an image with more clusters. */
const MAX_WINDOW_COUNT = 256;

/**
 * @returns the problems; none for a clean image
 * @throws DiskliftError where the file cannot be read, and `FormatUnsupported` for directories that cannot be parsed
 */
export async function checkImage(file: RangedFile, header: Qcow2Header, signal: AbortSignal): Promise<Problems> {
  const problems = new Problems();
  const checked: CheckedFile = { file, header, problems, signal };
  if (header.isCorrupt) problems.add({ kind: 'corrupt', offset: 72, message: 'is marked as corrupt by the program that wrote it' });
  const clusterCount = Math.ceil(file.sizeBytes / header.clusterSizeBytes);
  if (clusterCount > MAX_WINDOW_COUNT * WINDOW_CLUSTERS)
    throw new DiskliftError('FormatUnsupported', `${file.name}: has ${clusterCount} clusters, which are too many to be checked`);
  const layout = await readLayout(checked);
  const tables = distinctTables(layout, checked);
  const wrong: WrongRange[] = [];
  for (let first = 0; first < clusterCount; first += WINDOW_CLUSTERS) {
    const length = Math.min(WINDOW_CLUSTERS, clusterCount - first);
    const window: Window = { first, counts: new Uint16Array(length), stored: new Uint16Array(length) };
    await readRefcounts(checked, layout, window);
    await countReferences(checked, { layout, tables, window });
    requireSingleBlocks(checked, layout, window);
    await compareCounts({ ...window, clusterSizeBytes: header.clusterSizeBytes, problems, wrong });
  }
  if (wrong.length > 0) await nameUsers(checked, { layout, tables, wrong });
  return problems;
}

interface Window extends CountWindow {
  /** The refcounts of the same clusters. */
  stored: Uint16Array;
}

interface Tables {
  /** By L1 index; 0 where no table exists, or where an earlier entry names the same table. */
  active: Float64Array;
  /** Tables that only snapshots use. */
  others: Float64Array;
  /** How many L1 entries name the table. */
  timesOf(offset: number): number;
}

interface Counting {
  layout: CheckLayout;
  tables: Tables;
  window: Window;
}

/** Every table is read once a window, however many entries name it, so a loop of tables ends. */
function distinctTables({ active, ofSnapshots }: CheckLayout, { file, header, problems }: CheckedFile): Tables {
  const sorted = active.filter((offset) => offset !== 0).sort();
  const own = (columns: Float64Array, offset: number) => countNotAbove(columns, offset) - countNotAbove(columns, offset - 1);
  const first = new Float64Array(active.length);
  const seen = new Set<number>();
  const isReadable = (offset: number) => offset + header.clusterSizeBytes <= file.sizeBytes;
  for (const [index, offset] of active.entries()) {
    if (offset === 0) continue;
    const at = { offset: header.l1TableOffset + 8 * index, ...guestRangeOf(header, index) };
    if (own(sorted, offset) > 1) {
      problems.add({ kind: 'corrupt', message: `an L2 table at offset ${offset} stands for two parts of the disk`, ...at });
      if (seen.has(offset)) continue;
      seen.add(offset);
    }
    if (isReadable(offset)) first[index] = offset;
    else
      problems.add({
        kind: 'truncated',
        message: `an L2 table at offset ${offset} lies behind the file's end at ${file.sizeBytes}`,
        ...at,
      });
  }
  const others = ofSnapshots.filter((offset, index) => offset !== ofSnapshots[index - 1] && own(sorted, offset) === 0);
  for (const offset of others)
    if (!isReadable(offset))
      problems.add({ kind: 'truncated', offset, message: `an L2 table of a snapshot lies at ${offset}, behind the file's end` });
  return { active: first, others: others.filter(isReadable), timesOf: (offset) => own(sorted, offset) + own(ofSnapshots, offset) };
}

/** The part of the disk that an L1 entry maps; nothing for entries behind its end. */
function guestRangeOf(header: Qcow2Header, index: number): { guestOffset?: number; guestBytes?: number } {
  const tableBytes = guestBytesOfTable(header);
  const guestOffset = index * tableBytes;
  const guestBytes = Math.min(tableBytes, guestSizeBytes(header) - guestOffset);
  return guestBytes > 0 ? { guestOffset, guestBytes } : {};
}

function guestBytesOfTable({ clusterSizeBytes, hasExtendedL2 }: Qcow2Header): number {
  return clusterSizeBytes * (clusterSizeBytes / (hasExtendedL2 ? 16 : 8));
}

async function readRefcounts({ file, header, signal }: CheckedFile, { blocks }: CheckLayout, { first, stored }: Window): Promise<void> {
  const { clusterSizeBytes, refcountBits } = header;
  const perBlock = (clusterSizeBytes * 8) / refcountBits;
  const from = Math.floor(first / perBlock);
  // A block at the file's end may lack its last bytes, which QEMU reads as zeros.
  const offsets = blocks.slice(from, Math.ceil((first + stored.length) / perBlock));
  const read = async (buffer: Uint8Array, offset: number) => {
    const inFile = Math.max(0, Math.min(buffer.length, file.sizeBytes - offset));
    buffer.fill(0, inFile);
    await file.read(buffer.subarray(0, inFile), offset, signal);
  };
  for await (const batch of readTables(read, { offsets, tableSizeBytes: clusterSizeBytes, signal }))
    for (const { index, bytes } of batch) {
      const at = (from + index) * perBlock - first;
      const counts = parseRefcountBlock(bytes, refcountBits);
      stored.set(counts.subarray(0, Math.min(counts.length, stored.length - at)), at);
    }
}

async function countReferences(checked: CheckedFile, { layout, tables, window }: Counting): Promise<void> {
  const { header, problems } = checked;
  const { clusterSizeBytes } = header;
  const count = (start: number, end: number, times = 1) =>
    addReferences(window, { start: Math.floor(start / clusterSizeBytes), end: Math.ceil(end / clusterSizeBytes) }, times);
  for (const { start, end } of layout.areas) count(start, end);
  for (const offset of layout.blocks) if (offset !== 0) count(offset, offset + clusterSizeBytes);
  // An entry is judged in the window of its cluster, a table in the first one, so that nothing is reported twice.
  const isFirst = window.first === 0;
  for (const [index, offset] of layout.active.entries())
    if (offset !== 0) {
      count(offset, offset + clusterSizeBytes);
      const entry = { offset: header.l1TableOffset + 8 * index, what: 'an L1 entry' };
      judgeCopied(checked, window, {
        hostOffset: offset,
        copied: layout.activeCopied[index] === 1,
        ...entry,
        ...guestRangeOf(header, index),
      });
    }
  for (const offset of layout.ofSnapshots) count(offset, offset + clusterSizeBytes);
  await visitTables(checked, tables, (tableOffset) => {
    const times = tables.timesOf(tableOffset);
    return {
      refer(hostOffset, length, { offset, guestOffset, copied }) {
        if (isFirst) judgePlace(checked, { hostOffset, length, offset, guestOffset, isCompressed: copied === undefined });
        count(hostOffset, hostOffset + length, times);
        if (copied === undefined || guestOffset === undefined) return;
        judgeCopied(checked, window, { hostOffset, copied, offset, what: 'an L2 entry', guestOffset, guestBytes: clusterSizeBytes });
      },
      problem({ offset, why, guestOffset }) {
        if (!isFirst) return;
        const touched = guestOffset === undefined ? {} : { guestOffset, guestBytes: clusterSizeBytes };
        problems.add({ kind: 'corrupt', offset, message: `an L2 entry at offset ${offset} ${why}`, ...touched });
      },
    };
  });
  for (const { offset, entryCount } of layout.bitmapTables)
    for await (const { bytes, at } of piecesOf(checked, offset, entryCount * 8))
      visitBitmapTable(bytes, clusterSizeBytes, {
        onCluster: (hostOffset) => count(hostOffset, hostOffset + clusterSizeBytes),
        onProblem(place) {
          const entry = offset + at + place;
          if (isFirst) problems.add({ kind: 'corrupt', offset: entry, message: `an entry of a bitmap at offset ${entry} cannot be valid` });
        },
      });
}

/** Goes through all L2 tables: those of the disk in its order, then those that only snapshots use. */
async function visitTables(
  { file, header, signal }: CheckedFile,
  { active, others }: Tables,
  visitorOf: (tableOffset: number) => EntryVisitor,
): Promise<void> {
  const tableSizeBytes = header.clusterSizeBytes;
  const read = (buffer: Uint8Array, offset: number) => file.read(buffer, offset, signal);
  for (const [offsets, isActive] of [
    [active, true],
    [others, false],
  ] as const)
    for await (const batch of readTables(read, { offsets, tableSizeBytes, signal })) {
      for (const { bytes, offset, index } of batch)
        visitL2Table({ bytes, offset, guestOffset: isActive ? index * guestBytesOfTable(header) : undefined }, header, visitorOf(offset));
      await nextTurn();
    }
}

interface JudgedEntry {
  hostOffset: number;
  copied: boolean;
  /** Offset of the entry in the file. */
  offset: number;
  what: string;
  guestOffset?: number;
  guestBytes?: number;
}

/** The COPIED flag says that the refcount is exactly one. A writer trusts it, and would write into a shared cluster. */
function judgeCopied(
  { header, problems }: CheckedFile,
  { first, stored }: Window,
  { hostOffset, copied, what, ...entry }: JudgedEntry,
): void {
  const refcount = stored[hostOffset / header.clusterSizeBytes - first];
  if (refcount === undefined || (refcount === 1) === copied) return;
  const message = `${what} at offset ${entry.offset} ${copied ? 'has' : 'lacks'} the COPIED flag, and the refcount of its cluster at ${hostOffset} is ${refcount}`;
  problems.add({ kind: 'corrupt', message, ...entry });
}

interface JudgedPlace {
  hostOffset: number;
  length: number;
  offset: number;
  guestOffset: number | undefined;
  isCompressed: boolean;
}

/** The cluster at the file's end may be shorter, but only where the disk or its subclusters end as well. */
function judgePlace({ file, header, problems }: CheckedFile, { hostOffset, length, offset, guestOffset, isCompressed }: JudgedPlace): void {
  const { clusterSizeBytes, hasExtendedL2 } = header;
  const leftOnDisk = guestOffset === undefined ? 0 : guestSizeBytes(header) - guestOffset;
  const isExact = !hasExtendedL2 && !isCompressed && leftOnDisk > 0;
  const end = isCompressed ? wholeSectors(file.sizeBytes) : file.sizeBytes;
  const missing = hostOffset + (isExact ? Math.min(length, leftOnDisk) : length) - end;
  if (isExact || isCompressed ? missing <= 0 : missing < clusterSizeBytes) return;
  const touched = guestOffset !== undefined && leftOnDisk > 0 ? { guestOffset, guestBytes: Math.min(clusterSizeBytes, leftOnDisk) } : {};
  const message = `an L2 entry at offset ${offset} names ${hostOffset}, and the file ends at ${file.sizeBytes}`;
  problems.add({ kind: 'truncated', offset, message, ...touched });
}

/** A refcount block that something else uses as well will be overwritten. */
function requireSingleBlocks({ header, problems }: CheckedFile, { blocks }: CheckLayout, { first, counts }: Window): void {
  for (const offset of blocks) {
    const count = offset === 0 ? undefined : counts[offset / header.clusterSizeBytes - first];
    if (count !== undefined && count !== 1)
      problems.add({ kind: 'corrupt', offset, message: `the refcount block at offset ${offset} is used by ${count} entries` });
  }
}

/** Names what uses the clusters whose refcounts are too low. */
async function nameUsers(
  checked: CheckedFile,
  { layout, tables, wrong }: Omit<Counting, 'window'> & { wrong: WrongRange[] },
): Promise<void> {
  const name = (start: number, end: number, user: string) => {
    for (const range of wrong) if (start < range.end && end > range.start) range.addUser(user);
  };
  const { clusterSizeBytes } = checked.header;
  for (const { what, start, end } of layout.areas) name(start, end, what);
  for (const offset of layout.blocks) if (offset !== 0) name(offset, offset + clusterSizeBytes, 'a refcount block');
  for (const offset of layout.active) if (offset !== 0) name(offset, offset + clusterSizeBytes, 'an L2 table');
  await visitTables(checked, tables, () => ({
    refer(hostOffset, length, { guestOffset }) {
      const user = guestOffset === undefined ? 'a snapshot' : `byte ${guestOffset} of the disk`;
      name(hostOffset, hostOffset + length, user);
    },
    problem() {},
  }));
}
