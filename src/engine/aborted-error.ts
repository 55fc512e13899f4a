/** Why an attempt was aborted. A deadline says what it ended: the user has to know what was slow. */

import { cancelledError } from '../common/abortable.ts';
import { formatBytes } from '../common/bytes.ts';
import { DiskliftError } from '../common/errors.ts';
import type { DiskState } from './observer.ts';

/** @param state as it is when the signal has been aborted */
export function abortedError(signal: AbortSignal, state: DiskState): DiskliftError {
  const reason = cancelledError(signal);
  return reason.code === 'DeadlineExceeded' ? new DiskliftError(reason.code, `${reason.message}: ${unfinished(state)}`, reason) : reason;
}

function unfinished({ path, phase, failure, scannedBytes, virtualBytes, sentBytes, imageBytes }: DiskState): string {
  switch (phase) {
    case 'Scanning':
      return `${path} was being scanned${shareOf(scannedBytes, virtualBytes)}`;
    case 'Streaming':
      return `${path} was being sent${shareOf(sentBytes, imageBytes)}`;
    case 'Verifying':
      return `the destination had not confirmed ${path} yet`;
    default:
      if (failure === undefined) return `${path} waited for its turn`;
      if (failure.code === 'SourceInUse' || failure.code === 'InUseUnknown')
        return `${path} waited until nobody writes to it: ${failure.message}`;
      return `${path} waited for another attempt: ${failure.message}`;
  }
}

function shareOf(bytes: number, totalBytes: number | undefined): string {
  return totalBytes === undefined ? '' : ` (${formatBytes(bytes)} of ${formatBytes(totalBytes)})`;
}
