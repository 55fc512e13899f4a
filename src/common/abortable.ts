/** Leaving behind what cannot be interrupted. */

import { DiskliftError } from './errors.ts';

/** The error of something that was cancelled by `signal`: the signal's own reason when that is typed. */
export function cancelledError(signal: AbortSignal): DiskliftError {
  const { reason } = signal;
  return reason instanceof DiskliftError ? reason : new DiskliftError('Cancelled', 'cancelled', reason);
}

/** @throws DiskliftError `Cancelled` when `signal` is aborted. */
export function throwIfAborted(signal: AbortSignal): void {
  if (signal.aborted) throw cancelledError(signal);
}

/**
 * Waits for `operation` or for `signal`, whichever comes first. An operation that hangs in the kernel cannot be
 * cancelled; it is left behind with whatever buffer it writes to, so the caller must not use that buffer again.
 * @throws DiskliftError `Cancelled`
 */
export function abortable<T>(operation: Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) {
    operation.catch(() => {});
    return Promise.reject(cancelledError(signal));
  }
  return new Promise<T>((resolve, reject) => {
    const onAbort = () => reject(cancelledError(signal));
    signal.addEventListener('abort', onAbort, { once: true });
    operation.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}
