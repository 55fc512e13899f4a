/** One disk of an export, from the scan to the receipt, in as many attempts as it takes and may take. */

import { abortable, cancelledError, throwIfAborted } from '../common/abortable.ts';
import { DiskliftError, type ErrorCode } from '../common/errors.ts';
import { backoffDelayMs } from '../common/retry.ts';
import { settleWithin } from '../common/time-limit.ts';
import { type DigestedImage, digestImage } from '../image/digest.ts';
import { type ImageOptions, type PreparedImage, prepareImage } from '../image/prepare-image.ts';
import type { DiskSource } from '../sources/contract.ts';
import type { ExportTarget, Seal } from '../targets/contract.ts';
import { abandonUpload } from './abandon-upload.ts';
import { abortedError } from './aborted-error.ts';
import { ATTEMPT_BACKOFF } from './attempt-backoff.ts';
import { checkDestination } from './check-destination.ts';
import type { EngineContext } from './context.ts';
import { countReads } from './count-reads.ts';
import type { DiskState } from './observer.ts';
import { openWhenFree } from './open-when-free.ts';
import { type Phase, step } from './phases.ts';
import { requireRecordableUpload } from './recordable-upload.ts';
import { waitForSlot } from './wait-for-slot.ts';

export interface DiskPlan extends ImageOptions {
  /** Relative to the volume; names the disk in the status. */
  path: string;
  /** A retryable `SourceInUse` or `InUseUnknown` is waited for, which costs no attempt. */
  openSource(signal: AbortSignal): Promise<DiskSource>;
  /** Called for each attempt: credentials are read anew. */
  createTarget(): Promise<ExportTarget>;
  /** Where another process has left off. */
  state?: DiskState | undefined;
}

export interface DiskRules {
  checksum: 'SHA256' | 'None';
  /** Attempts that may fail before the disk has failed, beside the first. */
  backoffLimit: number;
}

/** An export gives its slot back in a longer wait. In a shorter one the next export would hardly begin. */
const MAX_SLOT_WAIT_MS = 5000;

/** Failures after which exports to other hosts keep a slot of their own. */
const DESTINATION_FAILURES: ReadonlySet<ErrorCode> = new Set(['DestinationUnreachable', 'DestinationRejected']);

/** An object that the request refers to is gone, or has changed. */
const REFERENCE_FAILURES: ReadonlySet<ErrorCode> = new Set(['CredentialsInvalid', 'ReferenceInvalid']);

/** Time for a target to close its connections after the export's signal is aborted. */
const SEND_GRACE_MS = 500;

/** What is kept from one attempt to the next: the scan, and what has been hashed. */
interface Prepared {
  prepared: PreparedImage;
  digested: DigestedImage | undefined;
}

/**
 * Brings one disk to its destination.
 * @param state is kept up to date and ends Succeeded, Failed or Cancelled; or Pending, when the executor was lost
 * @throws only what is no DiskliftError: mistakes of this program
 */
export function runDisk(plan: DiskPlan, rules: DiskRules, state: DiskState, context: EngineContext): Promise<void> {
  return new DiskRun(plan, rules, state, context).run();
}

class DiskRun {
  private readonly plan: DiskPlan;
  private readonly rules: DiskRules;
  private readonly state: DiskState;
  private readonly context: EngineContext;
  private kept: Prepared | undefined;
  /** Of the last attempt. */
  private target: ExportTarget | undefined;
  /** Whether an attempt has sent bytes, or may have, in this process or in an earlier one. */
  private hasSent: boolean;

  constructor(plan: DiskPlan, rules: DiskRules, state: DiskState, context: EngineContext) {
    this.plan = plan;
    this.rules = rules;
    this.state = state;
    this.context = context;
    this.hasSent = state.mayHaveSent === true || state.attempts > 0;
  }

  async run(): Promise<void> {
    const { state, context } = this;
    try {
      for (;;) {
        const attemptsBefore = state.attempts;
        const failure = await this.attempt();
        this.judgeHost(failure);
        if (failure === undefined) return this.enter('Succeeded');
        state.failure = failure;
        if (failure.code === 'ExecutorLost') {
          // Not the disk's attempt that failed: somebody else will make it.
          state.attempts = attemptsBefore;
          return this.enter('Pending');
        }
        if (failure.code === 'SourceChanged') await this.forgetScan();
        if (context.signal.aborted || !failure.retryable) return await this.end(failure);
        if (state.attempts > this.rules.backoffLimit)
          return await this.end(new DiskliftError(failure.code, `${failure.message} (after ${countOf(state.attempts)})`, failure));
        await this.backOff(failure);
      }
    } finally {
      await this.forgetScan();
    }
  }

  private judgeHost(failure: DiskliftError | undefined): void {
    const { slot } = this.context;
    if (failure === undefined) slot?.setHostFailing(false);
    else if (failure.retryable && DESTINATION_FAILURES.has(failure.code)) slot?.setHostFailing(true);
  }

  private enter(phase: Phase): void {
    this.state.phase = step(this.state.phase, phase);
    this.context.observer.onChange?.(this.state);
  }

  /** @returns the failure of the attempt, or undefined when the disk has arrived */
  private async attempt(): Promise<DiskliftError | undefined> {
    const { signal } = this.context;
    this.state.attempts += 1;
    try {
      throwIfAborted(signal);
      this.kept ??= await this.prepare();
      await this.send(this.kept);
      return undefined;
    } catch (error) {
      // What a transfer that is torn down reports says nothing of why.
      if (signal.aborted) return abortedError(signal, this.state);
      if (!(error instanceof DiskliftError)) throw error;
      return error;
    }
  }

  private async prepare(): Promise<Prepared> {
    const { plan, state, context } = this;
    // Anew before the image is sent: credentials may have been replaced since.
    this.target = await checkDestination(() => plan.createTarget(), context);
    // Named one by one, because a spread would lose the methods of a class instance.
    const prepared = await prepareImage({
      layout: plan.layout,
      qcow2: plan.qcow2,
      zeroDetection: plan.zeroDetection,
      verify: plan.verify,
      openSource: async () => {
        const source = await openWhenFree({
          openSource: (signal) => plan.openSource(signal),
          state,
          context,
          enter: (phase) => this.enter(phase),
        });
        return countReads(source, state);
      },
      signal: context.signal,
      clock: context.clock,
      warn: context.warn,
      onOpen: (virtualBytes, format, notice) => {
        if (notice !== undefined) state.notice = notice;
        state.format = format === 'raw' ? 'Raw' : format.toUpperCase();
        state.virtualBytes = virtualBytes;
        context.observer.onChange?.(state);
      },
      onScanned: (scannedBytes) => {
        state.scannedBytes = scannedBytes;
        context.observer.onProgress?.(state);
      },
    });
    state.imageBytes = prepared.image.sizeBytes;
    state.metadataBytes = prepared.layout.dataOffset;
    state.clusters = prepared.layout.map.clusters;
    state.map = prepared.layout.map;
    const digested = this.rules.checksum === 'SHA256' ? digestImage(prepared.image) : undefined;
    return { prepared, digested };
  }

  private async send({ prepared, digested }: Prepared): Promise<void> {
    const { plan, state, context } = this;
    const { signal, keeper } = context;
    state.sentBytes = 0;
    this.enter('Streaming');
    // What it refers to may have to be waited for.
    const target = await abortable(plan.createTarget(), signal);
    this.target = target;
    // Parts of another image: of the disk before it changed, or of other options.
    if (state.upload !== undefined && state.upload.fingerprint !== prepared.image.fingerprint)
      await abandonUpload(state, async () => target, context);
    // A hanging target is abandoned; its later reports are ignored.
    let isUnderWay = true;
    const sending = target.send(digested?.image ?? prepared.image, {
      signal,
      resume: state.upload,
      hasSentBefore: this.hasSent,
      saveResume: async (upload) => {
        if (!isUnderWay) throw cancelledError(signal);
        state.upload = upload;
        requireRecordableUpload(plan.path, upload);
        await abortable(keeper.save(), signal);
      },
      progress: (sentBytes) => {
        if (!isUnderWay) return;
        this.hasSent ||= sentBytes > 0;
        state.sentBytes = sentBytes;
        context.observer.onProgress?.(state);
      },
      seal: () => abortable(this.seal({ prepared, digested }), signal),
    });
    try {
      state.receipt = await settleWithin(sending, { signal, clock: context.clock, graceMs: SEND_GRACE_MS });
    } finally {
      isUnderWay = false;
    }
    // Whatever the target has told of its progress: all of it has arrived.
    state.sentBytes = state.imageBytes ?? state.sentBytes;
    context.observer.onProgress?.(state);
  }

  private async seal({ prepared, digested }: Prepared): Promise<Seal> {
    const { state, context } = this;
    const { signal, keeper } = context;
    throwIfAborted(signal);
    // The phase is entered already where a server redirected the upload at its end.
    if (state.phase !== 'Verifying') this.enter('Verifying');
    const sha256 = await digested?.sha256(signal);
    // All reads come before the seal. The claim is confirmed last, because that wait may be long.
    await prepared.seal();
    await keeper.assertHeld();
    return sha256 === undefined ? {} : { sha256 };
  }

  /** In a long wait, or while the host fails, another export may have the slot. The destination keeps the upload, and the disk stays open where there is room for it. */
  private async backOff(failure: DiskliftError): Promise<void> {
    const { state, context } = this;
    const { retryAfterMs } = failure;
    const delayMs = backoffDelayMs(ATTEMPT_BACKOFF, { failedAttempts: state.attempts, retryAfterMs }, context.random);
    state.nextAttemptMs = context.clock.nowMs() + delayMs;
    this.enter('Pending');
    context.observer.onRetry?.(state, failure, delayMs);
    const givesSlotBack = delayMs > MAX_SLOT_WAIT_MS || context.slot?.holdsUpOthers() === true;
    try {
      if (givesSlotBack) await this.pause();
      await context.clock.delay(delayMs, context.signal);
      delete state.nextAttemptMs;
      if (givesSlotBack) await waitForSlot({ state, context, enter: (phase) => this.enter(phase) });
    } catch (error) {
      // An abort ends the wait; the next attempt finds it.
      if (!(error instanceof DiskliftError)) throw error;
    } finally {
      delete state.nextAttemptMs;
    }
  }

  private async pause(): Promise<void> {
    const { slot } = this.context;
    if (this.kept === undefined) slot?.pause();
    else if (slot?.pauseOpen() === false) await this.forgetScan();
  }

  private async end(failure: DiskliftError): Promise<void> {
    const { plan, state, context } = this;
    state.failure = failure;
    this.enter(failure.code === 'Cancelled' ? 'Cancelled' : 'Failed');
    if (state.upload === undefined) return;
    try {
      await this.abandon();
    } catch (error) {
      if (!(error instanceof DiskliftError)) throw error;
      // The disk has ended, whatever becomes of it; `upload` tells what is still there.
      context.warn(`${plan.path}: an upload is left at the destination: ${error.message}`);
    }
  }

  /** What a request refers to may have gone with it, its credentials among them: then those of the last attempt have to do. */
  private async abandon(): Promise<void> {
    const { plan, state, context, target } = this;
    try {
      await abandonUpload(state, () => plan.createTarget(), context);
    } catch (error) {
      const isCredential = error instanceof DiskliftError && REFERENCE_FAILURES.has(error.code);
      if (!isCredential || target === undefined) throw error;
      await abandonUpload(state, async () => target, context);
    }
  }

  private async forgetScan(): Promise<void> {
    const last = this.kept;
    this.kept = undefined;
    await last?.prepared[Symbol.asyncDispose]();
  }
}

function countOf(attempts: number): string {
  return attempts === 1 ? '1 attempt' : `${attempts} attempts`;
}
