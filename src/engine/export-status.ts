/** The status of an export: of one that has begun, and of a request that no process runs. Pure. */

import { formatBytes } from '../common/bytes.ts';
import { timestamp } from '../common/clock.ts';
import { type DiskliftError, isStoreFailure } from '../common/errors.ts';
import { formatDuration, shortened } from '../common/text.ts';
import { destinationName } from '../resource/destination-kinds.ts';
import type { DiskExport, DiskExportStatus } from '../resource/disk-export.ts';
import { isManifest } from '../resource/source-kinds.ts';
import { type NewCondition as ConditionChange, fitStatus, setCondition } from '../resource/status.ts';
import type { StoredRequest } from '../stores/contract.ts';
import { diskStatusOf } from './disk-status.ts';
import { imageConditions } from './image-conditions.ts';
import { type DiskState, type ExportEnd, isFinal, type Phase, skippedClusters } from './observer.ts';

export interface ExportFacts {
  request: DiskExport;
  /** Absent until the disks are found: until then the status keeps what it has about them, such as open uploads. */
  disks?: readonly DiskState[] | undefined;
  /** One sentence for each file on the volume that may be a disk and is not sent. */
  leftOut?: readonly string[] | undefined;
  /** Present when this run has ended. */
  end?: { phase: ExportEnd; failure?: DiskliftError | undefined } | undefined;
  /** Time of the first claim in milliseconds since the epoch. */
  startMs: number;
  nowMs: number;
  executor?: DiskExportStatus['executor'] | undefined;
  unfinishedRuns?: DiskExportStatus['unfinishedRuns'];
  /** Present while the export waits because processes were lost in its runs. */
  suspicion?: { message: string; nextAttemptMs: number } | undefined;
}

/** @param previous the present status: a condition that does not change keeps its time */
export function exportStatusOf(facts: ExportFacts, previous: DiskExportStatus | undefined): DiskExportStatus {
  const { request, disks, end, startMs, nowMs, executor, unfinishedRuns } = facts;
  const { generation: observedGeneration } = request.metadata;
  const summary = summaryOf(facts);
  const isOver = end !== undefined && end.phase !== 'Pending';
  let { conditions = [] } = previous ?? {};
  for (const condition of conditionsOf(facts, summary)) conditions = setCondition(conditions, condition, { observedGeneration, nowMs });
  return fitStatus({
    ...(observedGeneration === undefined ? {} : { observedGeneration }),
    phase: summary.phase,
    message: summary.message,
    destination: destinationName(request),
    conditions,
    ...snapshotFacts(previous),
    startTime: timestamp(startMs),
    ...nextAttemptOf(facts),
    ...(isOver ? endTimes(startMs, previous?.completionTime ?? timestamp(nowMs)) : {}),
    ...(executor === undefined ? {} : { executor }),
    ...(unfinishedRuns === undefined || hasEndedInOrder(facts) ? {} : { unfinishedRuns }),
    ...(disks === undefined ? kept(previous) : diskFacts(disks, summary.phase)),
  });
}

/** Facts of the controller, which took the snapshot before this process began. */
function snapshotFacts({ consistency, snapshotTime }: DiskExportStatus = {}): Pick<DiskExportStatus, 'consistency' | 'snapshotTime'> {
  return { ...(consistency === undefined ? {} : { consistency }), ...(snapshotTime === undefined ? {} : { snapshotTime }) };
}

function endTimes(startMs: number, completionTime: string): Pick<DiskExportStatus, 'completionTime' | 'duration'> {
  return { completionTime, duration: formatDuration(Date.parse(completionTime) - startMs) };
}

/** Rounded up to whole seconds, so that no attempt begins earlier. */
function nextAttemptOf({ disks = [], end, suspicion }: ExportFacts): Pick<DiskExportStatus, 'nextAttemptTime'> {
  const nextAttemptMs = suspicion?.nextAttemptMs ?? disks.find((disk) => disk.nextAttemptMs !== undefined)?.nextAttemptMs;
  return end !== undefined || nextAttemptMs === undefined ? {} : { nextAttemptTime: timestamp(Math.ceil(nextAttemptMs / 1000) * 1000) };
}

/** True also for a run that hands over to another process, unless it has only waited. */
function hasEndedInOrder({ end, suspicion }: ExportFacts): boolean {
  return end !== undefined && (end.phase !== 'Pending' || suspicion === undefined);
}

type DiskFacts = Pick<DiskExportStatus, 'attempts' | 'progress' | 'disks'>;

function diskFacts(disks: readonly DiskState[], phase: Phase): DiskFacts {
  return {
    attempts: disks.reduce((sum, { attempts }) => sum + attempts, 0),
    progress: progressOf(disks, phase),
    disks: disks.map(diskStatusOf),
  };
}

function kept({ attempts = 0, progress, disks = [] }: DiskExportStatus = {}): DiskFacts {
  return { attempts, progress: progress ?? progressOf([], 'Pending'), disks };
}

interface Summary {
  phase: Phase;
  reason: string;
  message: string;
}

function summaryOf(facts: ExportFacts): Summary {
  const { disks = [], end } = facts;
  if (end !== undefined && end.phase !== 'Pending') return { phase: end.phase, ...endOf(facts, end) };
  // The store has failed; the disks may be readable.
  const storeFailure = end?.failure;
  if (isStoreFailure(storeFailure))
    return { phase: 'Pending', reason: storeFailure.code, message: `will run again: ${storeFailure.message}` };
  // Maybe no process follows that could write this later: the Job may be suspended or deleted.
  if (end !== undefined) return { phase: 'Pending', reason: 'Unclaimed', message: handoverOf(facts) };
  if (facts.suspicion !== undefined) return { phase: 'Pending', reason: 'ExecutorCrashed', message: facts.suspicion.message };
  const disk = disks.find(({ phase }) => !isFinal(phase));
  if (disk === undefined) return { phase: 'Pending', reason: 'Claimed', message: 'looking for the disks' };
  const { phase, failure, path, attempts } = disk;
  if (phase === 'Pending') {
    if (disk.isQueued)
      return {
        phase,
        reason: 'Queued',
        message:
          failure === undefined
            ? `${path}: is no longer in use, and waits for a slot`
            : `${path}: waits for a slot to make another attempt: ${failure.message}`,
      };
    if (failure === undefined) return { phase, reason: 'Claimed', message: `${path}: about to begin` };
    // The disk has not failed: the export is handed over.
    if (failure.code === 'ExecutorLost') return { phase, reason: 'Unclaimed', message: handoverOf(facts) };
    if (failure.code === 'SourceInUse' || failure.code === 'InUseUnknown')
      return { phase, reason: failure.code, message: `${path}: waits until the disk is free: ${failure.message}` };
    return { phase, reason: failure.code, message: `${path}: attempt ${attempts} failed and will be retried: ${failure.message}` };
  }
  const doing = { Scanning: 'is scanned', Streaming: 'is sent', Verifying: 'is verified' }[phase as 'Scanning'];
  return { phase, reason: phase === 'Scanning' ? 'Scanning' : 'Streaming', message: `${path}: ${doing} (attempt ${attempts})` };
}

function handoverOf({ executor: { podName } = {} }: ExportFacts): string {
  if (podName === undefined) return 'the process that ran this export was stopped; another process that serves the claim continues it';
  return (
    `the pod ${podName}, which ran this export, was stopped; the next pod that serves the claim continues it. A Deployment or a Job ` +
    'creates one by itself, unless it is suspended, scaled down or deleted'
  );
}

function endOf(
  { request, disks = [], leftOut = [] }: ExportFacts,
  { phase, failure }: NonNullable<ExportFacts['end']>,
): Omit<Summary, 'phase'> {
  if (phase === 'Succeeded') {
    const bytes = disks.reduce((sum, { sentBytes }) => sum + sentBytes, 0);
    const manifests = disks.filter(({ path }) => isManifest(request.spec.source, path)).map(({ path }) => ` and ${path}`);
    const diskCount = disks.length - manifests.length;
    const what = `${diskCount === 1 ? '1 disk' : `${diskCount} disks`}${manifests.join('')}`;
    return {
      reason: 'Completed',
      message: `${what} ${disks.length === 1 ? 'has' : 'have'} arrived, ${formatBytes(bytes)}${leftOut.length === 0 ? '' : `; left out: ${shortened(leftOut)}`}`,
    };
  }
  const failed = disks.filter((disk) => disk.phase !== 'Succeeded').map(({ path }) => path);
  const which = disks.length > 1 && failed.length > 0 ? ` (not arrived: ${shortened(failed, ', ')})` : '';
  return { reason: failure?.code ?? phase, message: `${failure?.message ?? phase}${which}` };
}

function conditionsOf({ request, disks = [], leftOut = [], end }: ExportFacts, { phase, reason, message }: Summary): ConditionChange[] {
  const isOver = end !== undefined && end.phase !== 'Pending';
  const isStopped = isOver || reason === 'Unclaimed';
  return [
    { type: 'Succeeded', status: isOver ? (phase === 'Succeeded' ? 'True' : 'False') : 'Unknown', reason, message },
    { type: 'Finished', status: isOver ? 'True' : 'False', reason, message },
    { type: 'Progressing', status: isStopped ? 'False' : 'True', reason, message },
    { type: 'SourceReady', ...sourceReadyOf(disks, isOver) },
    ...noticesOf(disks),
    ...imageConditions(disks, request),
    ...(leftOut.length === 0 ? [] : [{ type: 'DisksLeftOut', status: 'True', reason: 'NotNamed', message: shortened(leftOut) } as const]),
  ];
}

function noticesOf(disks: readonly DiskState[]): ConditionChange[] {
  const notices = disks.flatMap(({ path, notice }) => (notice === undefined ? [] : [`${path}: ${notice}`]));
  return notices.length === 0
    ? []
    : [{ type: 'ZerosMayBeLost', status: 'True', reason: 'ExplicitZeroClusters', message: shortened(notices) }];
}

/** Failures of the source. */
const SOURCE_CODE = /^(Source|FormatUnsupported|InUse|ImageTooLarge)/;

function sourceReadyOf(disks: readonly DiskState[], isOver: boolean): Omit<ConditionChange, 'type'> {
  const failure = disks.find((disk) => disk.phase !== 'Succeeded' && SOURCE_CODE.test(disk.failure?.code ?? ''))?.failure;
  if (failure !== undefined) return { status: 'False', reason: failure.code, message: failure.message };
  const isScanned = disks.length > 0 && disks.every(({ imageBytes }) => imageBytes !== undefined);
  if (isScanned) return { status: 'True', reason: 'Completed', message: 'every disk has been scanned' };
  return {
    status: 'Unknown',
    reason: isOver ? 'Completed' : 'Scanning',
    message: isOver ? 'not every disk was scanned' : 'not every disk has been scanned yet',
  };
}

function progressOf(disks: readonly DiskState[], phase: Phase): NonNullable<DiskExportStatus['progress']> {
  const sum = (of: (disk: DiskState) => number | undefined) => disks.reduce((total, disk) => total + (of(disk) ?? 0), 0);
  const sentBytes = sum((disk) => disk.sentBytes);
  const shares = sum(({ imageBytes, sentBytes: sent }) => (imageBytes ? sent / imageBytes : 0));
  // 100 only when all disks have arrived: the destination may still refuse the bytes that it has received.
  const percent = phase === 'Succeeded' ? 100 : disks.length === 0 ? 0 : Math.min(99, Math.floor((100 * shares) / disks.length));
  return {
    percent,
    virtualBytes: sum((disk) => disk.virtualBytes),
    imageBytes: sum((disk) => disk.imageBytes),
    sentBytes,
    skippedBytes: sum((disk) => skippedClusters(disk) * disk.clusterSizeBytes),
    written: quantity(sentBytes),
  };
}

/** A size in the notation of Kubernetes: 1.3Gi. */
function quantity(bytes: number): string {
  return bytes === 0
    ? '0'
    : formatBytes(bytes)
        .replace(' ', '')
        .replace(/i?B$/, (unit) => (unit === 'iB' ? 'i' : ''));
}

interface Idle {
  /** Queued: this process runs the request when a slot is free. Unclaimed: this process cannot run it. */
  reason: 'Queued' | 'Unclaimed';
  message: string;
  nowMs: number;
}

/** The status of a request whose export no process has begun. */
export function waitingStatusOf(request: DiskExport, { reason, message, nowMs }: Idle): DiskExportStatus {
  const { generation: observedGeneration } = request.metadata;
  const waiting = { reason, message };
  return fitStatus({
    ...(observedGeneration === undefined ? {} : { observedGeneration }),
    phase: 'Pending',
    message,
    destination: destinationName(request),
    conditions: setCondition(
      setCondition([], { type: 'Succeeded', status: 'Unknown', ...waiting }, { observedGeneration, nowMs }),
      { type: 'Finished', status: 'False', ...waiting },
      { observedGeneration, nowMs },
    ),
  });
}

/**
 * The status of a request that is invalid.
 * @returns undefined when the status says so already, or is the status of an export that has begun
 */
export function invalidStatusOf(
  { message, status }: Extract<StoredRequest, { kind: 'invalid' }>,
  nowMs: number,
): DiskExportStatus | undefined {
  const isOfAnExport = status?.startTime !== undefined;
  if (isOfAnExport || status?.message === fitStatus({ message }).message) return undefined;
  let { conditions = [] } = status ?? {};
  const invalid = { reason: 'InvalidRequest', message };
  for (const [type, state] of [
    ['Succeeded', 'False'],
    ['Finished', 'True'],
    ['Progressing', 'False'],
  ] as const)
    conditions = setCondition(conditions, { type, status: state, ...invalid }, { nowMs });
  return fitStatus({ phase: 'Failed', message, conditions, completionTime: timestamp(nowMs) });
}

/** Whether a request was edited after its last status. An edit does not change the outcome. */
export function isEdited({ metadata: { generation }, status }: DiskExport): boolean {
  return generation !== undefined && status !== undefined && status.observedGeneration !== generation;
}

export function isFinished({ status }: DiskExport): boolean {
  return status?.completionTime !== undefined;
}
