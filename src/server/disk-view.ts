/** What is told of a disk that is under way in this process. Sizes are bytes. */

import { printable } from '../common/text.ts';
import { countClusters, type DiskState, receiptFacts } from '../engine/observer.ts';
import type { DiskStatus } from '../resource/disk-export.ts';
import { sentUntilCluster } from './draw-map.ts';
import type { RateMeter } from './rate-meter.ts';
import { hintOf } from './reason-hints.ts';

export interface DiskView extends Omit<DiskStatus, 'upload' | 'format' | 'phase' | 'sentBytes' | 'attempts'> {
  phase: DiskState['phase'];
  sentBytes: number;
  attempts: number;
  /** What to do about the reason. */
  hint?: string;
  /** In the last scan. */
  scannedBytes?: number;
  /** Scanned or sent, whichever goes on. */
  bytesPerSecond?: number;
  /** There when the disk has a map: how far on the disk all data has been sent, in guest clusters. */
  sentUntilCluster?: number;
}

/** What moves in each phase. */
export function movedBytes({ phase, scannedBytes, sentBytes }: DiskState): number | undefined {
  return phase === 'Scanning' ? scannedBytes : phase === 'Streaming' ? sentBytes : undefined;
}

export function diskViewOf(disk: DiskState, meter: RateMeter): DiskView {
  const { path, phase, virtualBytes, imageBytes, sentBytes, scannedBytes, attempts, failure, receipt, map } = disk;
  const { total, scanned, skipped, written } = countClusters(disk);
  const bytes = movedBytes(disk);
  const bytesPerSecond = bytes === undefined ? undefined : meter.perSecond(bytes);
  const hint = hintOf(failure?.code);
  return {
    path,
    phase,
    sentBytes,
    scannedBytes,
    attempts,
    ...(virtualBytes === undefined ? {} : { virtualBytes, clusters: { total, scanned, skipped, written } }),
    ...(imageBytes === undefined ? {} : { imageBytes }),
    ...(bytesPerSecond === undefined ? {} : { bytesPerSecond }),
    ...(receipt === undefined ? {} : receiptFacts(receipt)),
    ...(failure === undefined || phase === 'Succeeded' ? {} : { reason: failure.code, message: printable(failure.message) }),
    ...(hint === undefined || phase === 'Succeeded' ? {} : { hint }),
    ...(map === undefined ? {} : { sentUntilCluster: sentUntilCluster(map, written) }),
  };
}
