/** One attempt to bring a disk to its destination: scan, send, seal. The scan is kept for the next attempt. */

import { abortable, cancelledError, throwIfAborted } from '../common/abortable.ts';
import { formatBytes } from '../common/bytes.ts';
import { DiskliftError, isBaseFailure } from '../common/errors.ts';
import { settleWithin } from '../common/time-limit.ts';
import { type DigestedImage, digestImage } from '../image/digest.ts';
import { type PreparedImage, prepareImage } from '../image/prepare-image.ts';
import type { BaseImage } from '../receipts/contract.ts';
import type { ChangesFrom } from '../sources/changed/contract.ts';
import type { ExportTarget, Seal } from '../targets/contract.ts';
import { abandonUpload, requireRecordableUpload } from './abandon-upload.ts';
import type { ArrivedImage, DiskPlan, DiskRules, EngineContext } from './contract.ts';
import { countReads } from './count-reads.ts';
import { changedBytesOf, deltaOptions, openOnBase, restoreRecorded, setImageType, withBase } from './image-type.ts';
import { type DiskState, type Phase, step } from './observer.ts';
import { openWhenFree } from './open-when-free.ts';

/** Time for a target to close its connections after the export's signal is aborted. */
const SEND_GRACE_MS = 500;

/** Kept from one attempt to the next. */
interface Scan {
  prepared: PreparedImage;
  digested: DigestedImage | undefined;
  base: BaseImage | undefined;
}

export class DiskAttempts {
  private readonly plan: DiskPlan;
  private readonly rules: DiskRules;
  private readonly state: DiskState;
  private readonly context: EngineContext;
  private scan: Scan | undefined;
  private lastTarget: ExportTarget | undefined;
  /** Present when the destination has the image, and only the receipt is left. */
  private arrived: ArrivedImage | undefined;
  /** Whether an attempt may have sent bytes, in this process or in an earlier one. */
  private hasSent: boolean;

  constructor(plan: DiskPlan, rules: DiskRules, state: DiskState, context: EngineContext) {
    this.plan = plan;
    this.rules = rules;
    this.state = state;
    this.context = context;
    this.hasSent = state.mayHaveSent === true || state.attempts > 0;
  }

  /** Target of the last attempt. */
  get target(): ExportTarget | undefined {
    return this.lastTarget;
  }

  get hasScan(): boolean {
    return this.scan !== undefined;
  }

  enter(phase: Phase): void {
    this.state.phase = step(this.state.phase, phase);
    this.context.observer.onChange?.(this.state);
  }

  /** @returns the failure of the attempt, or undefined when the disk has arrived */
  async attempt(): Promise<DiskliftError | undefined> {
    const { signal } = this.context;
    this.state.attempts += 1;
    try {
      throwIfAborted(signal);
      this.arrived ??= await this.bring();
      await this.record(this.arrived);
      return undefined;
    } catch (error) {
      // The failure of a transfer that was aborted does not say why it was aborted.
      if (signal.aborted) return abortedError(signal, this.state);
      if (!(error instanceof DiskliftError)) throw error;
      return error;
    }
  }

  /** Closes the disk. The next attempt scans it again. */
  async forgetScan(): Promise<void> {
    const last = this.scan;
    this.scan = undefined;
    await last?.prepared[Symbol.asyncDispose]();
  }

  /** Brings the image to the destination, unless an earlier run of this export has recorded it there. */
  private async bring(): Promise<ArrivedImage> {
    if (this.scan === undefined) {
      this.lastTarget = await this.checkDestination();
      const prepared = await this.prepare();
      if ('kind' in prepared) return prepared;
      this.scan = prepared;
    }
    return this.send(this.scan);
  }

  /** Chooses the base, and scans. Where no incremental image is possible, the plan's `fallback` decides. */
  private async prepare(): Promise<Scan | ArrivedImage> {
    const { plan, state, context } = this;
    const { incremental } = plan;
    const { signal, observer } = context;
    if (incremental === undefined) return this.scanDisk();
    try {
      const choice = await abortable(incremental.chooseBase(signal), signal);
      if (choice.kind === 'recorded') return restoreRecorded(state, choice.receipt, choice.location);
      if (choice.kind === 'incremental') return await this.scanDisk(choice.base);
      setImageType(state, { type: 'Full', reason: choice.reason, message: choice.message }, observer);
    } catch (error) {
      if (signal.aborted || !isBaseFailure(error) || incremental.fallback === 'Fail') throw error;
      setImageType(state, { type: 'Full', reason: error.code, message: error.message }, observer);
      if (state.phase === 'Scanning') this.enter('Pending');
    }
    delete state.changedBytes;
    return this.scanDisk();
  }

  private async scanDisk(base?: BaseImage): Promise<Scan> {
    const { plan, state, context } = this;
    // Named one by one, because a spread would lose the methods of a class instance.
    const prepared = await prepareImage({
      layout: plan.layout,
      ...deltaOptions(plan, base),
      zeroDetection: plan.zeroDetection,
      verify: plan.verify,
      openSource: async () => {
        const source = await openWhenFree({
          openSource: (signal) => (base === undefined ? plan.openSource(signal) : openOnBase(plan, base, signal)),
          state,
          context,
          enter: (phase) => this.enter(phase),
        });
        if (base === undefined) return countReads(source, state);
        setImageType(state, { type: 'Incremental', reason: source.changesFrom as ChangesFrom, base }, context.observer);
        return withBase(countReads(source, state), base);
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
    if (base !== undefined) state.changedBytes = changedBytesOf(prepared.layout);
    const digested = this.rules.checksum === 'SHA256' ? digestImage(prepared.image) : undefined;
    return { prepared, digested, base };
  }

  /** Meets failures of the destination before the scan, which may take hours. */
  private async checkDestination(): Promise<ExportTarget> {
    const { signal } = this.context;
    const target = await abortable(this.plan.createTarget(), signal);
    if (target.check !== undefined) await abortable(target.check(signal), signal);
    return target;
  }

  private async send(scan: Scan): Promise<ArrivedImage> {
    const { plan, state, context } = this;
    const { prepared, digested, base } = scan;
    const { signal, claim } = context;
    state.sentBytes = 0;
    this.enter('Streaming');
    // A new target, because credentials may have changed during the scan.
    const target = await abortable(plan.createTarget(), signal);
    this.lastTarget = target;
    // Parts of another image: of the disk before it changed, or of other options.
    if (state.upload !== undefined && state.upload.fingerprint !== prepared.image.fingerprint)
      await abandonUpload(state, async () => target, context);
    // A hanging target is abandoned; its later reports are ignored.
    let isSending = true;
    const sending = target.send(digested?.image ?? prepared.image, {
      signal,
      resume: state.upload,
      hasSentBefore: this.hasSent,
      saveResume: async (upload) => {
        if (!isSending) throw cancelledError(signal);
        state.upload = upload;
        requireRecordableUpload(plan.path, upload);
        await abortable(claim.saveStates(), signal);
      },
      progress: (sentBytes) => {
        if (!isSending) return;
        this.hasSent ||= sentBytes > 0;
        state.sentBytes = sentBytes;
        context.observer.onProgress?.(state);
      },
      seal: () => abortable(this.seal(scan), signal),
    });
    try {
      state.receipt = await settleWithin(sending, { signal, clock: context.clock, graceMs: SEND_GRACE_MS });
    } finally {
      isSending = false;
    }
    // All bytes have arrived, even if the target has reported fewer.
    state.sentBytes = state.imageBytes ?? state.sentBytes;
    context.observer.onProgress?.(state);
    return {
      kind: 'sent',
      receipt: state.receipt,
      virtualBytes: prepared.image.virtualSizeBytes,
      dataClusters: prepared.layout.map.clusters.data,
      readBytes: state.readBytes,
      type: state.imageType,
      base,
      changedBytes: state.changedBytes,
    };
  }

  /** Writes the receipt. */
  private async record(arrived: ArrivedImage): Promise<void> {
    const { plan, state, context } = this;
    const { signal, observer, claim } = context;
    if (plan.record === undefined) return;
    if (state.phase !== 'Verifying') this.enter('Verifying');
    // Another process that has taken the export over sends another image to the same place.
    await abortable(claim.assertHeld(), signal);
    try {
      const refusal = await abortable(plan.record(arrived, signal), signal);
      if (refusal === undefined) return;
      state.receiptRefusal = refusal;
      observer.onReceiptRefused?.(state, refusal);
    } catch (error) {
      if (signal.aborted || !(error instanceof DiskliftError)) throw error;
      // Nothing more is read from the disk.
      await this.forgetScan();
      const { code, message, retryable, retryAfterMs } = error;
      const what = `the image has arrived at ${state.receipt?.location}, but its receipt could not be written: ${message}`;
      throw new DiskliftError(code, what, error, { retryable, retryAfterMs });
    }
  }

  private async seal({ prepared, digested, base }: Scan): Promise<Seal> {
    const { state, context } = this;
    const { signal, claim } = context;
    throwIfAborted(signal);
    // A target that a server redirects at the end of the upload seals twice.
    if (state.phase !== 'Verifying') this.enter('Verifying');
    const sha256 = await digested?.sha256(signal);
    // All reads come before the seal. The claim comes last, because the seal may take long.
    await prepared.seal();
    if (base !== undefined) await this.confirm(base);
    await claim.assertHeld();
    return sha256 === undefined ? {} : { sha256 };
  }

  /** The scan and the transfer may have taken hours. Another attempt may make an image without this base. */
  private async confirm(base: BaseImage): Promise<void> {
    const { incremental } = this.plan;
    try {
      await incremental?.confirmBase(base, this.context.signal);
    } catch (error) {
      if (!isBaseFailure(error) || incremental?.fallback === 'Fail') throw error;
      throw new DiskliftError(error.code, error.message, error, { retryable: true });
    }
  }
}

/**
 * The reason of an abort. A missed deadline names the step that it ended, so that the user learns which step was slow.
 * @param state at the time of the abort
 */
export function abortedError(signal: AbortSignal, state: DiskState): DiskliftError {
  const reason = cancelledError(signal);
  return reason.code === 'DeadlineExceeded'
    ? new DiskliftError(reason.code, `${reason.message}: ${unfinishedStep(state)}`, reason)
    : reason;
}

function unfinishedStep({ path, phase, failure, scannedBytes, virtualBytes, sentBytes, imageBytes }: DiskState): string {
  switch (phase) {
    case 'Scanning':
      return `${path} was being scanned${shareOf(scannedBytes, virtualBytes)}`;
    case 'Streaming':
      return `${path} was being sent${shareOf(sentBytes, imageBytes)}`;
    case 'Verifying':
      return `the destination had not confirmed ${path} yet`;
    default:
      if (failure === undefined) return `${path} waited for a slot`;
      if (failure.code === 'SourceInUse' || failure.code === 'InUseUnknown')
        return `${path} waited until the disk is free: ${failure.message}`;
      return `${path} waited for another attempt: ${failure.message}`;
  }
}

function shareOf(bytes: number, totalBytes: number | undefined): string {
  return totalBytes === undefined ? '' : ` (${formatBytes(bytes)} of ${formatBytes(totalBytes)})`;
}
