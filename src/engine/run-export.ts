/** Runs an export: all its disks, one after the other, within its deadline; each disk with retries. */

import type { Clock } from '../common/clock.ts';
import { DiskliftError, type ErrorCode, isBaseFailure } from '../common/errors.ts';
import { type Backoff, backoffDelayMs } from '../common/retry.ts';
import { startTimeLimit, type TimeLimit } from '../common/time-limit.ts';
import { abandonUpload } from './abandon-upload.ts';
import { DiskAttempts } from './attempt-disk.ts';
import type { DiskPlan, DiskRules, EngineContext, ExportPlan, ExportResult } from './contract.ts';
import { type DiskState, isFinal, newDiskState } from './observer.ts';
import { waitForSlot } from './open-when-free.ts';

/** The failure of one disk does not stop the others. A deadline and a cancellation end all of them. */
export async function runExport(plan: ExportPlan, context: EngineContext): Promise<ExportResult> {
  const disks = plan.disks.map((disk) => disk.state ?? newDiskState(disk));
  const deadline = startDeadline(plan, context.clock);
  try {
    const signal = deadline === undefined ? context.signal : AbortSignal.any([context.signal, deadline.signal]);
    for (const [index, disk] of plan.disks.entries()) {
      const state = disks[index] as DiskState;
      if (!isFinal(state.phase)) await runDisk(disk, plan, state, withSignal(context, signal));
    }
  } finally {
    deadline?.stop();
  }
  return resultOf(disks);
}

/** The context may be a class instance: its methods are called, never copied. */
function withSignal(context: EngineContext, signal: AbortSignal): EngineContext {
  const { stopping, claim, slot, clock, observer } = context;
  return { signal, stopping, claim, slot, clock, observer, random: () => context.random(), warn: (message) => context.warn(message) };
}

function resultOf(disks: readonly DiskState[]): ExportResult {
  const [first] = disks.filter(({ phase }) => phase !== 'Succeeded');
  if (first === undefined) return { phase: 'Succeeded', disks };
  const phase = (['Pending', 'Failed'] as const).find((each) => disks.some((disk) => disk.phase === each)) ?? 'Cancelled';
  const { failure = new DiskliftError('Cancelled', 'cancelled') } = disks.find((disk) => disk.phase === phase) ?? first;
  return { phase, disks, failure };
}

/** @returns undefined when the export has no deadline */
export function startDeadline(
  { activeDeadlineSeconds: seconds, startMs }: Pick<ExportPlan, 'activeDeadlineSeconds' | 'startMs'>,
  clock: Clock,
): TimeLimit | undefined {
  if (seconds === undefined) return undefined;
  const expired = new DiskliftError('DeadlineExceeded', `not done within activeDeadlineSeconds, ${seconds} s`);
  return startTimeLimit({ clock, limitMs: (startMs ?? clock.nowMs()) + seconds * 1000 - clock.nowMs(), expired });
}

/**
 * Waits between attempts. They are short at first, for a broken connection. The default backoffLimit of the resource,
 * 8, covers the reboot of a receiver: at least 22 minutes, at most 32.
 */
export const ATTEMPT_BACKOFF: Backoff = { baseMs: 2000, capMs: 600_000, factor: 3, isIncreasing: true };

/** An export gives its slot back in a longer wait. In a shorter one the next export would hardly begin. */
const MAX_SLOT_WAIT_MS = 5000;

/** Failures after which exports to other hosts keep a slot of their own. */
const DESTINATION_FAILURES: ReadonlySet<ErrorCode> = new Set(['DestinationUnreachable', 'DestinationRejected']);

/** An object that the request refers to is missing, or has changed. */
const REFERENCE_FAILURES: ReadonlySet<ErrorCode> = new Set(['CredentialsInvalid', 'ReferenceInvalid']);

/**
 * Brings one disk of an export to its destination, with retries.
 * @param state is kept up to date and ends Succeeded, Failed or Cancelled; or Pending when this process lost the export
 * @throws only errors that are no DiskliftError: mistakes of this program
 */
async function runDisk(plan: DiskPlan, rules: DiskRules, state: DiskState, context: EngineContext): Promise<void> {
  const attempts = new DiskAttempts(plan, rules, state, context);
  try {
    for (;;) {
      const attemptsBefore = state.attempts;
      const failure = await attempts.attempt();
      judgeHost(failure, context);
      if (failure === undefined) return attempts.enter('Succeeded');
      state.failure = failure;
      if (failure.code === 'ExecutorLost') {
        // The attempt has not failed: another process continues it.
        state.attempts = attemptsBefore;
        return attempts.enter('Pending');
      }
      if (failure.code === 'SourceChanged' || isBaseFailure(failure)) await attempts.forgetScan();
      const isRetryable = failure.retryable && !context.signal.aborted;
      if (!isRetryable || state.attempts > rules.backoffLimit) {
        if (isRetryable) state.failure = withCount(failure, state.attempts);
        attempts.enter(failure.code === 'Cancelled' ? 'Cancelled' : 'Failed');
        return await abandonAtEnd({ plan, state, context, attempts });
      }
      await backOff(failure, { state, context, attempts });
    }
  } finally {
    await attempts.forgetScan();
  }
}

interface Run {
  plan: DiskPlan;
  state: DiskState;
  context: EngineContext;
  attempts: DiskAttempts;
}

function withCount(failure: DiskliftError, attempts: number): DiskliftError {
  return new DiskliftError(failure.code, `${failure.message} (after ${attempts === 1 ? '1 attempt' : `${attempts} attempts`})`, failure);
}

function judgeHost(failure: DiskliftError | undefined, { slot }: EngineContext): void {
  if (failure === undefined) slot?.setHostFailing(false);
  else if (failure.retryable && DESTINATION_FAILURES.has(failure.code)) slot?.setHostFailing(true);
}

/**
 * Waits for the next attempt. In a long wait, or while the host fails, another export may use the slot. The destination
 * keeps the upload. The disk stays open if the number of waiting exports with open disks permits.
 */
async function backOff(failure: DiskliftError, { state, context, attempts }: Omit<Run, 'plan'>): Promise<void> {
  const { clock, signal, slot, observer, random } = context;
  const { retryAfterMs } = failure;
  const delayMs = backoffDelayMs(ATTEMPT_BACKOFF, { failedAttempts: state.attempts, retryAfterMs }, random);
  state.nextAttemptMs = clock.nowMs() + delayMs;
  attempts.enter('Pending');
  observer.onRetry?.(state, failure, delayMs);
  const givesSlotBack = delayMs > MAX_SLOT_WAIT_MS || slot?.holdsUpOthers() === true;
  try {
    if (givesSlotBack) await giveSlotBack(attempts, context);
    await clock.delay(delayMs, signal);
    delete state.nextAttemptMs;
    if (givesSlotBack) await waitForSlot({ state, context, enter: (phase) => attempts.enter(phase) });
  } catch (error) {
    // An abort ends the wait; the next attempt reports it.
    if (!(error instanceof DiskliftError)) throw error;
  } finally {
    delete state.nextAttemptMs;
  }
}

async function giveSlotBack(attempts: DiskAttempts, { slot }: EngineContext): Promise<void> {
  if (!attempts.hasScan) slot?.pause();
  else if (slot?.pauseOpen() === false) await attempts.forgetScan();
}

/**
 * The disk has ended, even when its upload cannot be aborted; `upload` in its status then names the upload that is
 * left.
 */
async function abandonAtEnd(run: Run): Promise<void> {
  const { plan, state, context } = run;
  if (state.upload === undefined) return;
  try {
    await abandon(run);
  } catch (error) {
    if (!(error instanceof DiskliftError)) throw error;
    context.warn(`${plan.path}: an upload is left at the destination: ${error.message}`);
  }
}

/** Uses the target of the last attempt when the Secrets of the request are gone, as they may be when it is deleted. */
async function abandon({ plan, state, context, attempts: { target } }: Run): Promise<void> {
  try {
    await abandonUpload(state, () => plan.createTarget(), context);
  } catch (error) {
    const isReference = error instanceof DiskliftError && REFERENCE_FAILURES.has(error.code);
    if (!isReference || target === undefined) throw error;
    await abandonUpload(state, async () => target, context);
  }
}
