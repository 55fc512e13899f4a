/** A clone of a snapshot, as a disk whose extents the SnapshotMetadata service lists. */

import { allocateIoBuffer } from '../../../common/buffers.ts';
import { alignUp, MIB } from '../../../common/bytes.ts';
import { DiskliftError } from '../../../common/errors.ts';
import { mapConcurrently } from '../../../common/limiter.ts';
import type { DiskSource } from '../../contract.ts';
import { delegateDisk } from '../../delegate-disk.ts';
import type { TrackedSource } from '../contract.ts';
import type { RangeList, RangesQuestion } from './contract.ts';
import { changedBlocksOf, dataExtentsOf } from './extents.ts';
import { listRanges } from './list-ranges.ts';
import { refusedList } from './service-errors.ts';

export interface SnapshotDiskOptions extends RangesQuestion {
  /** The clone. The caller disposes it when this fails; later the returned disk does. */
  disk: DiskSource;
}

/**
 * Lists what has changed since the base.
 * @throws DiskliftError as `listRanges`
 */
export async function trackChanges({ disk, ...question }: SnapshotDiskOptions & { baseHandle: string }): Promise<TrackedSource> {
  if (disk.format !== undefined && disk.format !== 'raw')
    throw refusedList(disk.name, `it is of the bytes of the volume, which has an image of the format ${disk.format}`);
  const list = await listRanges(question);
  const changed = changedBlocksOf(disk.name, list, disk.sizeBytes);
  // An unusable size shows now, and not in the middle of the scan.
  for await (const _ of changed.extents(question.signal)) break;
  const { snapshot, baseHandle } = question;
  return {
    ...delegateDisk(disk),
    changed,
    changesFrom: 'SnapshotMetadata',
    identity: async () => ({ ...(await disk.identity()), snapshot: snapshot.name, changedSince: baseHandle }),
  };
}

/**
 * Lists what has data, so that nothing else is read. A list that cannot be had, or that lacks data, is left out, and
 * the whole disk is read.
 * @param warn receives why the list is not used
 * @throws DiskliftError errors of the disk; `Cancelled`
 */
export async function listData({ disk, ...question }: SnapshotDiskOptions, warn: (message: string) => void): Promise<DiskSource> {
  if (disk.format !== undefined && disk.format !== 'raw') return disk;
  const list = await usableList(disk, question, warn);
  if (list === undefined) return disk;
  return { ...delegateDisk(disk), extents: (signal) => dataExtentsOf(disk.name, list, disk.sizeBytes, signal) };
}

async function usableList(disk: DiskSource, question: RangesQuestion, warn: (message: string) => void): Promise<RangeList | undefined> {
  try {
    const list = await listRanges(question);
    const missed = await findMissedData(disk, list, question.signal);
    if (missed === undefined) return list;
    warn(`${disk.name}: has data at offset ${missed}, which the driver's list of allocated blocks lacks; the whole disk is read`);
  } catch (error) {
    if (question.signal.aborted || !(error instanceof DiskliftError)) throw error;
    warn(`${error.message}; the whole disk is read`);
  }
  return undefined;
}

/** Looks at three places of each of so many gaps. A driver that takes a whole volume for new shows there. */
const MAX_GAPS = 100;
/** Looks in each so many bytes as well: one long gap may have data far from its ends. */
const LOOK_EACH_BYTES = 16 * MIB;
/** A larger volume is looked at in wider steps. At 1 ms a look, six at a time, these take three seconds. */
const MAX_LOOKS = 16_384;
const LOOK_BYTES = 4096;
const LOOKS_IN_FLIGHT = 6;

/**
 * A driver may take blocks for unwritten that the volume has from an image or a snapshot of which it was made.
 * @returns the offset of data in a gap, or undefined where none was found
 */
async function findMissedData(disk: DiskSource, list: RangeList, signal: AbortSignal): Promise<number | undefined> {
  const looks: { at: number; end: number }[] = [];
  for await (const look of looksOf(disk, list, signal)) looks.push(look);
  const missed: number[] = [];
  await mapConcurrently(looks, LOOKS_IN_FLIGHT, async ({ at, end }) => {
    if (missed.length > 0) return;
    const bytes = allocateIoBuffer(Math.min(LOOK_BYTES, end - at));
    await disk.read(bytes, at, signal);
    if (bytes.some((byte) => byte !== 0)) missed.push(at);
  });
  return missed[0];
}

/** Places in the gaps of the list, and the end of the gap of each. */
async function* looksOf({ name, sizeBytes }: DiskSource, list: RangeList, signal: AbortSignal) {
  const gapStep = Math.ceil((list.count + 1) / MAX_GAPS);
  const step = alignUp(Math.max(LOOK_EACH_BYTES, sizeBytes / MAX_LOOKS), LOOK_BYTES);
  let gaps = 0;
  for await (const { offset, length, kind } of dataExtentsOf(name, list, sizeBytes, signal)) {
    if (kind === 'data') continue;
    const end = offset + length;
    for (let at = alignUp(offset, step); at < end; at += step) yield { at, end };
    gaps += 1;
    if (gaps % gapStep !== 0) continue;
    const last = Math.max(0, length - LOOK_BYTES);
    for (const at of [offset, offset + Math.floor(last / 2), offset + last]) yield { at, end };
  }
}
