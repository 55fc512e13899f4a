/** The one writer of an export's status: not often, only what is new, and the last word always. */

import type { Clock } from '../common/clock.ts';
import { DiskliftError } from '../common/errors.ts';
import type { DiskExportStatus } from '../resource/disk-export.ts';
import { patiently } from './patiently.ts';
import { createAcceptedWriter } from './write-accepted.ts';

/** Often enough for people who watch, seldom enough for an API server with hundreds of exports. */
const PERIOD_MS = 2000;

export interface StatusWriterOptions {
  /** The status as it is now. */
  build(): DiskExportStatus;
  write(status: DiskExportStatus): Promise<void>;
  clock: Clock;
  random(): number;
  warn(message: string): void;
}

export interface StatusWriter {
  /** Something has changed. It will be written within {@link PERIOD_MS}. */
  touch(): void;
  /**
   * Writes the present status, and tries again until it is written. Where the store refuses the full status for good, briefer ones follow.
   * @param patienceMs time in which a failing store is asked again; no limit when left out
   * @throws DiskliftError `ExecutorLost`, and the refusal of the briefest status, at once; the store's last failure; the signal's reason
   * when it is aborted first
   */
  flush(signal: AbortSignal, patienceMs?: number): Promise<void>;
  /** Writes no more by itself. */
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
    // What cannot be written now is written with the next change, or by the flush at the end.
    await writeNow().catch((error: unknown) => warn(`the status cannot be written: ${textOf(error)}`));
  }

  return {
    touch() {
      // A store that refuses every status is asked again at the next flush, not every two seconds.
      if (!isWaiting && !accepted.isRefused && !stopped.signal.aborted) void writeSoon();
    },
    flush: (signal, patienceMs) =>
      patiently(() => writeNow(), {
        ...{ clock, random, signal, patienceMs },
        isToBeRetried: (error) => !(error instanceof DiskliftError) || error.retryable,
        onFailure: (error) => warn(`the status cannot be written, and will be tried again: ${textOf(error)}`),
      }),
    stop: () => stopped.abort(new DiskliftError('Cancelled', 'stopped')),
  };
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
