/** One disk of an export, from the scan to the receipt, in as many attempts as it takes and may take. */

import { cancelledError, throwIfAborted } from '../common/abortable.ts';
import { type Backoff, backoffDelayMs } from '../common/backoff.ts';
import type { Clock } from '../common/clock.ts';
import { DiskliftError } from '../common/errors.ts';
import { type DigestedImage, digestImage } from '../image/digest.ts';
import { type ImageOptions, type PreparedImage, prepareImage } from '../image/prepare-image.ts';
import type { DiskSource } from '../sources/contract.ts';
import type { ExportTarget } from '../targets/contract.ts';
import type { DiskState, ExportObserver } from './observer.ts';
import { type Phase, step } from './phases.ts';

export interface DiskPlan extends ImageOptions {
  /** Relative to the volume; names the disk in the status. */
  path: string;
  openSource(): Promise<DiskSource>;
  /** Called for each attempt: credentials are read anew. */
  createTarget(): Promise<ExportTarget>;
}

export interface DiskRules {
  checksum: 'SHA256' | 'None';
  /** Attempts that may fail before the disk has failed, beside the first. */
  backoffLimit: number;
}

export interface EngineContext {
  signal: AbortSignal;
  clock: Clock;
  /** Gives numbers from 0 up to, and not with, 1. */
  random(): number;
  observer: ExportObserver;
  /** Takes one line about what is worth knowing but stops nothing. */
  warn(message: string): void;
}

const BACKOFF: Backoff = { baseMs: 2000, capMs: 300_000 };

/** What is kept from one attempt to the next: the scan, and what has been hashed. */
interface Prepared extends AsyncDisposable {
  prepared: PreparedImage;
  digested: DigestedImage | undefined;
}

/**
 * Brings one disk to its destination.
 * @param state is kept up to date and ends Succeeded, Failed or Cancelled
 * @throws only what is no DiskliftError: mistakes of this program
 */
export async function runDisk(plan: DiskPlan, rules: DiskRules, state: DiskState, context: EngineContext): Promise<void> {
  const { signal, observer } = context;
  let kept: Prepared | undefined;

  function enter(phase: Phase): void {
    state.phase = step(state.phase, phase);
    observer.onChange?.(state);
  }

  async function prepare(): Promise<Prepared> {
    enter('Scanning');
    const prepared = await prepareImage({
      ...plan,
      signal,
      warn: context.warn,
      onOpen: (virtualBytes) => {
        state.virtualBytes = virtualBytes;
        observer.onChange?.(state);
      },
      onScanned: (scannedBytes) => {
        state.scannedBytes = scannedBytes;
        observer.onProgress?.(state);
      },
    });
    const digested = rules.checksum === 'SHA256' ? digestImage(prepared.image) : undefined;
    return { prepared, digested, [Symbol.asyncDispose]: () => prepared[Symbol.asyncDispose]() };
  }

  async function send({ prepared, digested }: Prepared): Promise<void> {
    state.imageBytes = prepared.image.sizeBytes;
    state.metadataBytes = prepared.layout.dataOffset;
    state.clusters = prepared.layout.map.clusters;
    state.sentBytes = 0;
    enter('Streaming');
    const target = await plan.createTarget();
    state.receipt = await target.send(digested?.image ?? prepared.image, {
      signal,
      progress: (sentBytes) => {
        state.sentBytes = sentBytes;
        observer.onProgress?.(state);
      },
      seal: async () => {
        // For the second time where a server has sent the image elsewhere at its end.
        if (state.phase !== 'Verifying') enter('Verifying');
        const sha256 = await digested?.sha256(signal);
        // Last: what was hashed was read before.
        await prepared.seal();
        return sha256 === undefined ? {} : { sha256 };
      },
    });
  }

  /** @returns the failure of the attempt, or undefined when the disk has arrived */
  async function attempt(): Promise<DiskliftError | undefined> {
    state.attempts += 1;
    try {
      throwIfAborted(signal);
      kept ??= await prepare();
      await send(kept);
      return undefined;
    } catch (error) {
      // What a transfer that is torn down reports says nothing of why.
      if (signal.aborted) return cancelledError(signal);
      if (!(error instanceof DiskliftError)) throw error;
      return error;
    }
  }

  try {
    for (;;) {
      const failure = await attempt();
      if (failure === undefined) return enter('Succeeded');
      state.failure = failure;
      if (failure.code === 'SourceChanged') {
        await kept?.[Symbol.asyncDispose]();
        kept = undefined;
      }
      if (signal.aborted || !failure.retryable) return enter(failure.code === 'Cancelled' ? 'Cancelled' : 'Failed');
      if (state.attempts > rules.backoffLimit) {
        state.failure = new DiskliftError(failure.code, `${failure.message} (after ${state.attempts} attempts)`, failure);
        return enter('Failed');
      }
      const { retryAfterMs } = failure;
      const delayMs = backoffDelayMs(BACKOFF, { failedAttempts: state.attempts, retryAfterMs }, context.random);
      enter('Pending');
      observer.onRetry?.(state, failure, delayMs);
      await wait(delayMs);
    }
  } finally {
    await kept?.[Symbol.asyncDispose]();
  }

  /** An abort ends the wait; the next attempt finds it. */
  async function wait(delayMs: number): Promise<void> {
    await context.clock.delay(delayMs, signal).catch((error: unknown) => {
      if (!(error instanceof DiskliftError)) throw error;
    });
  }
}
