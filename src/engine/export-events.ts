/** Events that a run records on its object. */

import type { DiskliftError } from '../common/errors.ts';
import type { RequestEvent } from '../stores/contract.ts';
import type { ExportEnd, ExportObserver } from './observer.ts';

export interface ExportEvents {
  record(type: RequestEvent['type'], reason: string, message: string): void;
  /** Records and logs each file that may be a disk and is not sent. */
  leaveOut(files: readonly string[]): void;
  /** Records retries and waits. */
  observer: ExportObserver;
  end(phase: ExportEnd, failure?: DiskliftError): void;
}

export interface EventSink {
  recordEvent(event: RequestEvent): Promise<void>;
  warn(message: string): void;
}

export function createExportEvents({ recordEvent, warn }: EventSink): ExportEvents {
  function record(type: RequestEvent['type'], reason: string, message: string): void {
    // By contract this never fails; an export must not depend on that.
    recordEvent({ type, reason, message }).catch(() => {});
  }

  return {
    record,
    leaveOut(files) {
      for (const file of files) {
        warn(`left out: ${file}`);
        record('Warning', 'DiskLeftOut', `left out: ${file}`);
      }
    },
    observer: {
      onRetry({ path, attempts }, { message }, delayMs) {
        record('Warning', 'Retrying', `${path}: attempt ${attempts} failed, the next in ${Math.ceil(delayMs / 1000)} s: ${message}`);
      },
      onImageType({ path }, type) {
        if (type.type === 'Incremental') return;
        if (type.reason === 'FirstImage') record('Normal', 'FirstImage', `${path}: a full image, because ${type.message}`);
        else record('Warning', 'FellBackToFull', `${path}: a full image, because of ${type.reason}: ${type.message}`);
      },
      onReceiptRefused({ path }, refusal) {
        record('Warning', 'ReceiptMissing', `${path}: the image has arrived, and has no receipt: ${refusal}`);
      },
      onWait({ path }, { message }) {
        record('Warning', 'Waiting', `${path}: waits until the disk is free: ${message}`);
      },
    },
    end(phase, failure) {
      if (phase === 'Succeeded') record('Normal', 'Succeeded', 'every disk has arrived');
      else if (phase === 'Cancelled') record('Normal', 'Cancelled', failure?.message ?? 'cancelled');
      else if (phase === 'Failed') record('Warning', 'Failed', `${failure?.code}: ${failure?.message}`);
    },
  };
}
