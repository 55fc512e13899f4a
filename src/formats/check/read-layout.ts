/** Reads where the tables of an image lie, for a check that goes on behind wrong entries. */

import { alignUp, KIB } from '../../common/bytes.ts';
import { TABLE_ENTRY_SIZE_BYTES } from '../../qcow2/constants.ts';
import type { Qcow2Header } from '../../qcow2/read/parse-header.ts';
import { visitRefcountTable } from '../../qcow2/read/refcounts.ts';
import { bitmapClusterCount, MAX_SNAPSHOT_ENTRY_BYTES, parseBitmap, parseSnapshot, type TablePlace } from '../../qcow2/read/snapshots.ts';
import { visitL1Table } from '../../qcow2/read/table-references.ts';
import type { RangedFile } from '../../sources/remote/contract.ts';
import type { Problems } from './problems.ts';

export interface CheckedFile {
  file: RangedFile;
  header: Qcow2Header;
  problems: Problems;
  signal: AbortSignal;
}

/** Bytes of the file that hold one thing. */
interface Area {
  /** For messages: "the L1 table". */
  what: string;
  start: number;
  end: number;
}

export interface CheckLayout {
  /** Header and tables, except L2 tables and refcount blocks. They may overlap in a damaged image. */
  areas: Area[];
  /** By L1 index: the offset of the L2 table in the file, 0 where none exists. */
  active: Float64Array;
  /** By L1 index: 1 where the entry has the COPIED flag. */
  activeCopied: Uint8Array;
  /** L2 tables of the snapshots, ascending, each as often as it is referred to. */
  ofSnapshots: Float64Array;
  /** By index in the refcount table: the offset of the block, 0 where none exists. */
  blocks: Float64Array;
  bitmapTables: TablePlace[];
}

/** Parsing this many bytes takes about a millisecond. */
const PIECE_BYTES = 512 * KIB;

export async function readLayout(checked: CheckedFile): Promise<CheckLayout> {
  const { header } = checked;
  const areas: Area[] = [{ what: 'the header', start: 0, end: header.clusterSizeBytes }];
  const l1 = { offset: header.l1TableOffset, entryCount: header.l1EntryCount };
  const active = new Float64Array(l1.entryCount);
  const activeCopied = new Uint8Array(l1.entryCount);
  await readL1(checked, areas, { what: 'the L1 table', ...l1 }, (index, offset, copied) => {
    active[index] = offset;
    activeCopied[index] = copied ? 1 : 0;
  });
  const ofSnapshots = await readSnapshots(checked, areas);
  const bitmapTables = await readBitmapDirectory(checked, areas);
  const blocks = await readRefcountTable(checked, areas);
  return { areas, active, activeCopied, ofSnapshots, blocks, bitmapTables };
}

/** @returns false, and notes the problem, where the file ends in front of the end of the area */
function claim({ file, problems }: CheckedFile, areas: Area[], { what, start, end }: Area): boolean {
  if (end > start) areas.push({ what, start, end });
  if (end <= file.sizeBytes) return true;
  const message = `${what} at offset ${start} goes on to ${end}, and the file ends at ${file.sizeBytes}`;
  problems.add({ kind: 'truncated', offset: start, message });
  return false;
}

type OnTable = (index: number, l2Offset: number, copied: boolean) => void;

async function readL1(
  checked: CheckedFile,
  areas: Area[],
  { what, offset, entryCount }: TablePlace & { what: string },
  onTable: OnTable,
): Promise<void> {
  const { problems, header } = checked;
  const { clusterSizeBytes } = header;
  if (offset % clusterSizeBytes !== 0) {
    problems.add({ kind: 'corrupt', offset, message: `${what} is said to be at ${offset}, which is not the beginning of a cluster` });
    return;
  }
  if (!claim(checked, areas, { what, start: offset, end: offset + entryCount * TABLE_ENTRY_SIZE_BYTES })) return;
  for await (const { bytes, at } of piecesOf(checked, offset, entryCount * TABLE_ENTRY_SIZE_BYTES))
    visitL1Table(
      bytes,
      { offset: offset + at, clusterSizeBytes },
      (index, ...entry) => onTable(at / TABLE_ENTRY_SIZE_BYTES + index, ...entry),
      ({ offset: place, why }) =>
        problems.add({ kind: 'corrupt', offset: place, message: `${what} has an entry at offset ${place} that ${why}` }),
    );
}

/** Reads a table a piece at a time; the next piece comes meanwhile. */
export async function* piecesOf(
  { file, signal }: CheckedFile,
  offset: number,
  length: number,
): AsyncGenerator<{ bytes: Uint8Array; at: number }> {
  const start = (at: number) => {
    const bytes = Buffer.allocUnsafeSlow(Math.min(PIECE_BYTES, length - at));
    const done = file.read(bytes, offset + at, signal).then(() => bytes);
    // It is awaited later; until then a failure must not count as unhandled.
    done.catch(() => {});
    return done;
  };
  let next = length > 0 ? start(0) : undefined;
  for (let at = 0; next !== undefined; at += PIECE_BYTES) {
    const bytes = await next;
    next = at + PIECE_BYTES < length ? start(at + PIECE_BYTES) : undefined;
    yield { bytes, at };
  }
}

async function readSnapshots(checked: CheckedFile, areas: Area[]): Promise<Float64Array> {
  const { file, header, problems, signal } = checked;
  const { snapshotCount, snapshotsOffset } = header;
  let found = new Float64Array(64);
  let count = 0;
  let at = snapshotsOffset;
  let tableBytes = 0;
  for (let index = 0; index < snapshotCount; index += 1) {
    const bytes = Buffer.allocUnsafe(Math.max(0, Math.min(MAX_SNAPSHOT_ENTRY_BYTES, file.sizeBytes - at)));
    await file.read(bytes, Math.min(at, file.sizeBytes), signal);
    const { table, end } = parseSnapshot(bytes, 0, `${file.name}: at offset ${at}`);
    at += end;
    tableBytes += table.entryCount * TABLE_ENTRY_SIZE_BYTES;
    // Tables that fill more than the file overlap. Reading them all could take forever.
    if (tableBytes > file.sizeBytes) {
      problems.add({ kind: 'corrupt', offset: at, message: 'the tables of its snapshots are larger than the file' });
      break;
    }
    await readL1(checked, areas, { what: `the L1 table of snapshot ${index + 1}`, ...table }, (_index, offset) => {
      if (count === found.length) {
        const longer = new Float64Array(2 * count);
        longer.set(found);
        found = longer;
      }
      found[count] = offset;
      count += 1;
    });
  }
  if (snapshotCount > 0) claim(checked, areas, { what: 'the snapshot table', start: snapshotsOffset, end: at });
  return found.subarray(0, count).sort();
}

/** QEMU's own limit of the bitmap directory. */
const MAX_BITMAP_DIRECTORY_BYTES = 1024 * 65_535;

async function readBitmapDirectory(checked: CheckedFile, areas: Area[]): Promise<TablePlace[]> {
  const { file, header, problems, signal } = checked;
  const { bitmaps } = header;
  if (bitmaps === undefined || bitmaps.count === 0) return [];
  const { offset, sizeBytes, count } = bitmaps;
  const what = 'the bitmap directory';
  if (sizeBytes > MAX_BITMAP_DIRECTORY_BYTES || offset % header.clusterSizeBytes !== 0) {
    problems.add({ kind: 'corrupt', offset, message: `${what} is said to have ${sizeBytes} bytes at ${offset}, which cannot be` });
    return [];
  }
  if (!claim(checked, areas, { what, start: offset, end: offset + sizeBytes })) return [];
  const bytes = Buffer.allocUnsafeSlow(sizeBytes);
  await file.read(bytes, offset, signal);
  const tables: TablePlace[] = [];
  let tableBytes = 0;
  for (let at = 0, index = 0; index < count; index += 1) {
    const { table, end, isInUse, granularityBytes } = parseBitmap(bytes, at, `${file.name}: in its bitmap directory`);
    at = end;
    const start = table.offset;
    const { clusterSizeBytes } = header;
    // QEMU does not read a bitmap that was in use, because its content counts no more.
    const expected = isInUse ? table.entryCount : bitmapClusterCount(header.sizeBytes, granularityBytes, clusterSizeBytes);
    if (start % clusterSizeBytes !== 0 || start === 0 || table.entryCount !== expected) {
      const message = `the table of bitmap ${index + 1} is said to have ${table.entryCount} entries at ${start}, and ${expected} are needed`;
      problems.add({ kind: 'corrupt', offset, message });
      continue;
    }
    tableBytes += table.entryCount * TABLE_ENTRY_SIZE_BYTES;
    if (tableBytes > file.sizeBytes) {
      problems.add({ kind: 'corrupt', offset, message: 'the tables of its bitmaps are larger than the file' });
      break;
    }
    if (claim(checked, areas, { what: `the table of bitmap ${index + 1}`, start, end: start + table.entryCount * TABLE_ENTRY_SIZE_BYTES }))
      tables.push(table);
  }
  return tables;
}

async function readRefcountTable(checked: CheckedFile, areas: Area[]): Promise<Float64Array> {
  const { file, header, problems } = checked;
  const { clusterSizeBytes, refcountTableOffset: start, refcountTableClusterCount } = header;
  const sizeBytes = refcountTableClusterCount * clusterSizeBytes;
  const blocks = new Float64Array(sizeBytes / TABLE_ENTRY_SIZE_BYTES);
  const what = 'the refcount table';
  if (!claim(checked, areas, { what, start, end: start + sizeBytes })) return blocks;
  for await (const { bytes, at } of piecesOf(checked, start, sizeBytes))
    visitRefcountTable(bytes, clusterSizeBytes, (index, blockOffset, isAligned) => {
      const offset = start + at + index * TABLE_ENTRY_SIZE_BYTES;
      const wrong = (why: string) =>
        problems.add({ kind: 'corrupt', offset, message: `${what} has an entry at offset ${offset} that names ${blockOffset}, ${why}` });
      if (!isAligned) wrong('which is not the beginning of a cluster');
      else if (blockOffset >= alignUp(file.sizeBytes, clusterSizeBytes)) wrong(`and the file ends at ${file.sizeBytes}`);
      else blocks[at / TABLE_ENTRY_SIZE_BYTES + index] = blockOffset;
    });
  return blocks;
}
