/** One attempt to bring a disk to its destination: scan, send, seal. The scan is kept for the next attempt. */

import { abortable, cancelledError, throwIfAborted } from '../common/abortable.ts';
import { formatBytes } from '../common/bytes.ts';
import { DiskliftError } from '../common/errors.ts';
import { settleWithin } from '../common/time-limit.ts';
import { type DigestedImage, digestImage } from '../image/digest.ts';
import { type PreparedImage, prepareImage } from '../image/prepare-image.ts';
import type { DiskSource } from '../sources/contract.ts';
import type { ExportTarget, Seal } from '../targets/contract.ts';
import { abandonUpload, requireRecordableUpload } from './abandon-upload.ts';
import type { DiskPlan, DiskRules, EngineContext } from './contract.ts';
import { type DiskState, type Phase, step } from './observer.ts';
import { openWhenFree } from './open-when-free.ts';

/** Time for a target to close its connections after the export's signal is aborted. */
const SEND_GRACE_MS = 500;

/** Kept from one attempt to the next. */
interface Scan {
  prepared: PreparedImage;
  digested: DigestedImage | undefined;
}

export class DiskAttempts {
  private readonly plan: DiskPlan;
  private readonly rules: DiskRules;
  private readonly state: DiskState;
  private readonly context: EngineContext;
  private scan: Scan | undefined;
  private lastTarget: ExportTarget | undefined;
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
      this.scan ??= await this.prepare();
      await this.send(this.scan);
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

  private async prepare(): Promise<Scan> {
    const { plan, state, context } = this;
    this.lastTarget = await this.checkDestination();
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

  /** Meets failures of the destination before the scan, which may take hours. */
  private async checkDestination(): Promise<ExportTarget> {
    const { signal } = this.context;
    const target = await abortable(this.plan.createTarget(), signal);
    if (target.check !== undefined) await abortable(target.check(signal), signal);
    return target;
  }

  private async send({ prepared, digested }: Scan): Promise<void> {
    const { plan, state, context } = this;
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
      seal: () => abortable(this.seal({ prepared, digested }), signal),
    });
    try {
      state.receipt = await settleWithin(sending, { signal, clock: context.clock, graceMs: SEND_GRACE_MS });
    } finally {
      isSending = false;
    }
    // All bytes have arrived, even if the target has reported fewer.
    state.sentBytes = state.imageBytes ?? state.sentBytes;
    context.observer.onProgress?.(state);
  }

  private async seal({ prepared, digested }: Scan): Promise<Seal> {
    const { state, context } = this;
    const { signal, claim } = context;
    throwIfAborted(signal);
    // A target that a server redirects at the end of the upload seals twice.
    if (state.phase !== 'Verifying') this.enter('Verifying');
    const sha256 = await digested?.sha256(signal);
    // All reads come before the seal. The claim comes last, because the seal may take long.
    await prepared.seal();
    await claim.assertHeld();
    return sha256 === undefined ? {} : { sha256 };
  }
}

/**
 * Wraps a disk: counts the bytes of successful reads, and abandons calls that hang when the export must end. Has no
 * `fileExtents`, because bytes that the kernel moves by itself cannot be counted.
 * @param source may be a class instance: its members are called, never copied
 */
export function countReads(source: DiskSource, state: Pick<DiskState, 'readBytes'>): DiskSource {
  const { name, sizeBytes, format, notice, identityMissesWrites } = source;
  return {
    name,
    sizeBytes,
    ...(format === undefined ? {} : { format }),
    ...(notice === undefined ? {} : { notice }),
    ...(identityMissesWrites === undefined ? {} : { identityMissesWrites }),
    async *extents(signal, holes) {
      const extents = source.extents(signal, holes)[Symbol.asyncIterator]();
      try {
        for (;;) {
          const { done, value } = await abortable(extents.next(), signal);
          if (done) return;
          yield value;
        }
      } finally {
        // This settles only after the pending call, which may hang.
        extents.return?.().catch(() => {});
      }
    },
    async read(buffer, offset, signal) {
      await abortable(source.read(buffer, offset, signal), signal);
      state.readBytes += buffer.length;
    },
    ...(source.showsData === undefined ? {} : { showsData: (offset: number) => source.showsData?.(offset) ?? false }),
    identity: () => source.identity(),
    ...(source.openAgain === undefined
      ? {}
      : { openAgain: async (signal) => countReads((await source.openAgain?.(signal)) ?? source, state) }),
    dispose: () => source.dispose(),
  };
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
