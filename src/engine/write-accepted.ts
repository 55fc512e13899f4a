/** Writes a status in the longest form that the store accepts. */

import { DiskliftError } from '../common/errors.ts';
import type { DiskExportStatus } from '../resource/disk-export.ts';
import { statusesByLength } from './brief-status.ts';

export interface AcceptedWriter {
  /** @throws DiskliftError what `write` throws: where it is a refusal for good, the store has refused the briefest status too */
  write(status: DiskExportStatus): Promise<void>;
  /** Whether the last status was refused in every form. */
  readonly isRefused: boolean;
}

/** A form that was refused once is not tried again: the store has another version's schema, or a policy of its own. */
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
          warn(`the status is refused, and a briefer one is written in its place: ${error.message}`);
        }
      }
    },
  };
}

function isRefusedForGood(error: unknown): error is DiskliftError {
  return error instanceof DiskliftError && error.code === 'StoreRefused' && !error.retryable;
}
