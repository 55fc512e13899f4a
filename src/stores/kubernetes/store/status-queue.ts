/** The statuses of one export, written one after the other, each of the object's generation that the engine has been shown. */

import { statusOfGeneration } from '../../../resource/conditions.ts';
import type { DiskExportStatus } from '../../../resource/disk-export.ts';
import type { MergePatch } from '../client/contract.ts';
import { statusPatch } from './status-patch.ts';

export interface StatusQueueOptions {
  /** Of the object as it was claimed. */
  generation: number | undefined;
  write(patch: MergePatch): Promise<void>;
  warn(message: string): void;
}

export interface StatusQueue {
  /** @throws what `write` throws */
  write(status: DiskExportStatus): Promise<void>;
  /** The engine has been shown an edit: what was written last is as true of that. */
  observe(generation: number | undefined): void;
}

export function createStatusQueue({ generation, write, warn }: StatusQueueOptions): StatusQueue {
  let observed = generation;
  let last: DiskExportStatus | undefined;
  let writing: Promise<void> = Promise.resolve();

  function writeLast(): Promise<void> {
    const next = writing.catch(() => {}).then(() => write(statusPatch(statusOfGeneration(last as DiskExportStatus, observed))));
    writing = next;
    return next;
  }

  return {
    write(status) {
      last = status;
      return writeLast();
    },
    observe(next) {
      if (next === observed) return;
      observed = next;
      if (last !== undefined) writeLast().catch((error: unknown) => warn(`the status cannot be written: ${(error as Error).message}`));
    },
  };
}
