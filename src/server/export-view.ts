/**
 * An export as /api/v1/exports and the status page show it: from its status and, while it runs here, from the state of
 * its disks. Pure.
 */

import { printable } from '../common/text.ts';
import type { ObservedRequest } from '../engine/observer.ts';
import { type DestinationName, describeKind } from '../resource/destination-kinds.ts';
import type { DestinationSpec, DiskExport, DiskExportStatus } from '../resource/disk-export.ts';
import { type SourceObject, sourceObject } from '../resource/source-kinds.ts';
import type { DiskView } from './live-export.ts';
import { hintOf } from './reason-hints.ts';

export type ExportPhase = NonNullable<DiskExportStatus['phase']>;

export interface ExportView {
  namespace: string;
  name: string;
  /** The object that is exported. Absent for an invalid request. */
  source?: SourceObject;
  /** Present only where the source is a claim. */
  claim?: string;
  destination?: DestinationView;
  phase: ExportPhase;
  reason?: string;
  message?: string;
  /** Advice about the reason. */
  hint?: string;
  /** Whether this process runs it now. */
  isLive: boolean;
  /** Whether no process has claimed it. */
  isUnclaimed: boolean;
  /** Present while the export waits for its next attempt. */
  nextAttemptTime?: string;
  startTime?: string;
  completionTime?: string;
  /** The state that the images show: of a disk without writers, of a guest that was frozen, or of a running one. */
  consistency?: NonNullable<DiskExportStatus['consistency']>;
  /** The moment that the images show, when they are read from a snapshot. */
  snapshotTime?: string;
  attempts: number;
  /** Attempts after the first of each disk. */
  retries: number;
  percent: number;
  virtualBytes: number;
  imageBytes: number;
  sentBytes: number;
  skippedBytes: number;
  bytesPerSecond?: number;
  etaSeconds?: number;
  executor?: string;
  disks: DiskView[];
}

export interface ExportFacts {
  key: string;
  stored: ObservedRequest;
  /** The status that was written last. */
  status: DiskExportStatus | undefined;
  /** Disks of a run in this process; they replace those of the status. */
  liveDisks?: readonly DiskView[] | undefined;
  placeholders?: PlaceholderSource | undefined;
}

/** @returns values of the request's placeholders; without `disk` when `diskPath` is left out */
export type PlaceholderSource = (request: DiskExport, diskPath?: string) => PlaceholderTexts;

/** Shown when no process has written a status. */
const UNCLAIMED = 'No process has claimed this export. A sidecar that serves the claim will, or the controller.';

const ENDS: ReadonlySet<string> = new Set(['Succeeded', 'Failed', 'Cancelled']);

export function isOver(phase: string): boolean {
  return ENDS.has(phase);
}

export function exportViewOf({ key, stored, status, liveDisks, placeholders }: ExportFacts): ExportView {
  const [namespace = '', name = ''] = key.split('/');
  const disks = mergeDisks(status, liveDisks);
  const written = status?.conditions?.find(({ type }) => type === 'Succeeded')?.reason;
  const phase = phaseOf(status, liveDisks === undefined ? [] : disks);
  const isUnclaimed = stored.kind === 'request' && phase === 'Pending' && (written ?? 'Unclaimed') === 'Unclaimed';
  const reason = isUnclaimed ? 'Unclaimed' : written;
  const sum = (of: (disk: DiskView) => number) => disks.reduce((total, disk) => total + of(disk), 0);
  const message =
    stored.kind === 'invalid' && status?.startTime === undefined
      ? printable(stored.message)
      : (status?.message ?? (isUnclaimed ? UNCLAIMED : undefined));
  const hint = phase === 'Succeeded' ? undefined : hintOf(reason);
  return {
    namespace,
    name,
    ...(stored.kind === 'invalid' ? {} : specFacts(stored, placeholders?.(stored.request, onlyPathOf(disks)))),
    phase,
    ...(reason === undefined ? {} : { reason }),
    ...(message === undefined ? {} : { message }),
    ...(hint === undefined ? {} : { hint }),
    isLive: liveDisks !== undefined,
    isUnclaimed,
    ...(phase === 'Pending' && status?.nextAttemptTime !== undefined ? { nextAttemptTime: status.nextAttemptTime } : {}),
    ...timesOf(status),
    attempts: sum((disk) => disk.attempts),
    retries: sum((disk) => Math.max(0, disk.attempts - 1)),
    percent: liveDisks === undefined ? (status?.progress?.percent ?? 0) : percentOf(disks),
    ...sizesOf(status, disks),
    ...rateOf(disks),
    disks,
  };
}

/** The controller keeps no disks of an export that has ended, but the sums. */
function sizesOf({ progress }: DiskExportStatus = {}, disks: readonly DiskView[]) {
  const skippedBytes = progress?.skippedBytes ?? 0;
  if (disks.length === 0) {
    const { virtualBytes = 0, imageBytes = 0, sentBytes = 0 } = progress ?? {};
    return { virtualBytes, imageBytes, sentBytes, skippedBytes };
  }
  const sum = (of: (disk: DiskView) => number | undefined) => disks.reduce((total, disk) => total + (of(disk) ?? 0), 0);
  return {
    virtualBytes: sum((disk) => disk.virtualBytes),
    imageBytes: sum((disk) => disk.imageBytes),
    sentBytes: sum((disk) => disk.sentBytes),
    skippedBytes,
  };
}

/** Several disks have several destinations. */
function onlyPathOf(disks: readonly DiskView[]): string | undefined {
  return disks.length === 1 ? disks[0]?.path : undefined;
}

function specFacts({ request: { spec } }: Extract<ObservedRequest, { kind: 'request' }>, placeholders: PlaceholderTexts = {}) {
  const source = sourceObject(spec.source);
  return {
    source,
    ...(source.kind === 'PersistentVolumeClaim' ? { claim: source.name } : {}),
    destination: describeDestination(spec.destination, placeholders),
  };
}

function timesOf({ startTime, completionTime, executor, consistency, snapshotTime }: DiskExportStatus = {}) {
  return {
    ...(startTime === undefined ? {} : { startTime }),
    ...(completionTime === undefined ? {} : { completionTime }),
    ...(consistency === undefined ? {} : { consistency }),
    ...(snapshotTime === undefined ? {} : { snapshotTime }),
    ...(executor?.podName === undefined ? {} : { executor: executor.podName }),
  };
}

function mergeDisks(status: DiskExportStatus | undefined, live: readonly DiskView[] = []): DiskView[] {
  const known = new Map(live.map((disk) => [disk.path, disk]));
  const recorded = (status?.disks ?? []).map((disk): DiskView => {
    const { phase = 'Pending', sentBytes = 0, attempts = 0, upload: _, format: __, reason, ...facts } = disk;
    const hint = hintOf(reason);
    return (
      known.get(disk.path) ?? {
        ...facts,
        phase,
        sentBytes,
        attempts,
        ...(reason === undefined ? {} : { reason }),
        ...(hint === undefined ? {} : { hint }),
      }
    );
  });
  const paths = new Set(recorded.map(({ path }) => path));
  return [...recorded, ...live.filter(({ path }) => !paths.has(path))];
}

/** The status is up to two seconds old, so the disks of a run in this process decide. */
function phaseOf(status: DiskExportStatus | undefined, disks: readonly DiskView[]): ExportPhase {
  const { phase = 'Pending' } = status ?? {};
  if (isOver(phase)) return phase;
  return disks.find((disk) => !isOver(disk.phase))?.phase ?? phase;
}

/** The same as in the status: 100 only when all disks have arrived. */
function percentOf(disks: readonly DiskView[]): number {
  const shares = disks.reduce((sum, { imageBytes, sentBytes }) => sum + (imageBytes ? sentBytes / imageBytes : 0), 0);
  return disks.length === 0 ? 0 : Math.min(99, Math.floor((100 * shares) / disks.length));
}

function rateOf(disks: readonly DiskView[]): Pick<ExportView, 'bytesPerSecond' | 'etaSeconds'> {
  const { bytesPerSecond, phase } = disks.find((disk) => disk.bytesPerSecond !== undefined) ?? {};
  if (bytesPerSecond === undefined) return {};
  // The size of an image is known when its disk is scanned.
  const left = disks.map((disk) => (isOver(disk.phase) ? 0 : disk.imageBytes === undefined ? undefined : disk.imageBytes - disk.sentBytes));
  const isKnown = phase === 'Streaming' && bytesPerSecond > 0 && !left.includes(undefined);
  const leftBytes = left.reduce<number>((sum, bytes) => sum + (bytes ?? 0), 0);
  return { bytesPerSecond, ...(isKnown ? { etaSeconds: Math.ceil(leftBytes / bytesPerSecond) } : {}) };
}

export interface DestinationView {
  kind: DestinationName | 'unknown';
  /** With the values of placeholders that are known. */
  address: string;
}

/** Values by the names of the placeholders. */
export type PlaceholderTexts = Readonly<Record<string, string | undefined>>;

/** Describes a destination without anything that could be a secret. */
export function describeDestination(destination: DestinationSpec, placeholders: PlaceholderTexts = {}): DestinationView {
  const { kind, address } = describeKind(destination) ?? UNKNOWN_DESTINATION;
  return { kind, address: printable(expanded(address, placeholders)) };
}

const UNKNOWN_DESTINATION = { kind: 'unknown', address: 'a kind of destination that this version of disklift does not know' } as const;

function expanded(address: string, placeholders: PlaceholderTexts): string {
  return address.replace(/\{(\w+)\}/g, (whole, name: string) =>
    Object.hasOwn(placeholders, name) ? (placeholders[name] ?? whole) : whole,
  );
}
