/** Writes the status of an export: at most every two seconds, only changes, and the final status always. */

import type { Clock } from '../common/clock.ts';
import { DiskliftError } from '../common/errors.ts';
import { retryStoreCall } from '../common/retry.ts';
import { truncated } from '../common/text.ts';
import type { DiskExportStatus, DiskStatus } from '../resource/disk-export.ts';

/** Short enough for people who watch, long enough for an API server with hundreds of exports. */
const PERIOD_MS = 2000;

export interface StatusWriterOptions {
  /** @returns the present status */
  build(): DiskExportStatus;
  write(status: DiskExportStatus): Promise<void>;
  clock: Clock;
  random(): number;
  warn(message: string): void;
}

export interface StatusWriter {
  /** The status has changed. It is written within {@link PERIOD_MS}. */
  touch(): void;
  /**
   * Writes the present status, and retries until it is written. When the store refuses the full status for good,
   * shorter ones follow.
   * @param patienceMs time in which a failing call is retried; no limit when left out
   * @throws DiskliftError `ExecutorLost`, and the refusal of the shortest status, at once; the store's last failure;
   * the signal's reason when it is aborted first
   */
  flush(signal: AbortSignal, patienceMs?: number): Promise<void>;
  /** Stops the writes that `touch` has started. */
  stop(): void;
}

export function createStatusWriter({ build, write, clock, random, warn }: StatusWriterOptions): StatusWriter {
  const stopped = new AbortController();
  let lastText: string | undefined;
  let lastMs = Number.NEGATIVE_INFINITY;
  let isWaiting = false;
  const accepted = createAcceptedWriter(write, warn);
  /** One write at a time, in order. */
  let writing: Promise<void> = Promise.resolve();

  function writeNow(): Promise<void> {
    const next = writing
      .catch(() => {})
      .then(async () => {
        const status = build();
        const text = JSON.stringify(status);
        if (text === lastText) return;
        lastMs = clock.monotonicMs();
        await accepted.write(status);
        lastText = text;
      });
    writing = next;
    return next;
  }

  async function writeSoon(): Promise<void> {
    isWaiting = true;
    try {
      await clock.delay(Math.max(0, lastMs + PERIOD_MS - clock.monotonicMs()), stopped.signal);
    } catch {
      return;
    } finally {
      isWaiting = false;
    }
    // After a failure the next change is written, or the flush at the end.
    await writeNow().catch((error: unknown) => warn(`the status cannot be written: ${textOf(error)}`));
  }

  return {
    touch() {
      // A status that is refused in every form is written again by the next flush, not every two seconds.
      if (!isWaiting && !accepted.isRefused && !stopped.signal.aborted) void writeSoon();
    },
    flush: (signal, patienceMs) =>
      retryStoreCall(() => writeNow(), {
        ...{ clock, random, signal, limitMs: patienceMs },
        isRetryable: (error) => !(error instanceof DiskliftError) || error.retryable,
        onRetry: (error) => warn(`the status cannot be written, and will be tried again: ${textOf(error)}`),
      }),
    stop: () => stopped.abort(new DiskliftError('Cancelled', 'stopped')),
  };
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

export interface AcceptedWriter {
  /** @throws DiskliftError as `write`; a refusal for good only when the store has refused the shortest status too */
  write(status: DiskExportStatus): Promise<void>;
  /** Whether the store has refused the last status in every form. */
  readonly isRefused: boolean;
}

/**
 * Writes a status in the longest form that the store accepts. A form that was refused once is not tried again: the
 * store has the schema of another version, or a policy of its own.
 */
export function createAcceptedWriter(write: (status: DiskExportStatus) => Promise<void>, warn: (message: string) => void): AcceptedWriter {
  let refusals = 0;
  let isRefused = false;

  return {
    get isRefused() {
      return isRefused;
    },
    async write(status) {
      const forms = statusesByLength(status);
      for (;;) {
        isRefused = false;
        const form = Math.min(refusals, forms.length - 1);
        try {
          return await write(forms[form] as DiskExportStatus);
        } catch (error) {
          if (!isRefusedForGood(error)) throw error;
          isRefused = form === forms.length - 1;
          if (isRefused) throw error;
          refusals = form + 1;
          warn(`the store refuses the status, and a shorter one is written in its place: ${error.message}`);
        }
      }
    },
  };
}

function isRefusedForGood(error: unknown): error is DiskliftError {
  return error instanceof DiskliftError && error.code === 'StoreRefused' && !error.retryable;
}

const MAX_MESSAGE_CHARACTERS = 200;

/** Conditions of the outcome. */
const CONDITIONS: ReadonlySet<string> = new Set(['Succeeded', 'Finished', 'Progressing', 'VolumesLeftOut']);

/** @returns the full status, then ever shorter ones; each contains open uploads, because only the status names them */
export function statusesByLength(status: DiskExportStatus): readonly DiskExportStatus[] {
  const short = shortStatusOf(status);
  const hasUpload = status.disks?.some(({ upload }) => upload !== undefined) ?? false;
  if (hasUpload) return [status, short];
  const { disks: _, ...withoutDisks } = short;
  return [status, short, withoutDisks];
}

/** The outcome of the export, its receipts and its open uploads. */
function shortStatusOf({
  phase,
  message,
  conditions = [],
  consistency,
  snapshotTime,
  startTime,
  completionTime,
  disks = [],
  unfinishedRuns,
}: DiskExportStatus): DiskExportStatus {
  return {
    ...(phase === undefined ? {} : { phase }),
    ...(message === undefined ? {} : { message: truncated(message, MAX_MESSAGE_CHARACTERS) }),
    conditions: conditions
      .filter(({ type }) => CONDITIONS.has(type))
      .map((condition) => ({ ...condition, message: truncated(condition.message, MAX_MESSAGE_CHARACTERS) })),
    ...(consistency === undefined ? {} : { consistency }),
    ...(snapshotTime === undefined ? {} : { snapshotTime }),
    ...(startTime === undefined ? {} : { startTime }),
    ...(completionTime === undefined ? {} : { completionTime }),
    ...(unfinishedRuns === undefined ? {} : { unfinishedRuns }),
    disks: disks.map(receiptOf),
  };
}

function receiptOf({ path, phase, attempts, imageBytes, location, sha256, upload }: DiskStatus): DiskStatus {
  return {
    path,
    ...(phase === undefined ? {} : { phase }),
    ...(attempts === undefined ? {} : { attempts }),
    ...(imageBytes === undefined ? {} : { imageBytes }),
    ...(location === undefined ? {} : { location }),
    ...(sha256 === undefined ? {} : { sha256 }),
    ...(upload === undefined ? {} : { upload }),
  };
}
