/** Writes the statuses of one export one after the other, each with the generation that the engine has seen last. */

import type { DiskExportStatus } from '../../../resource/disk-export.ts';
import { isFields, type Schema } from '../../../resource/schema.ts';
import { statusOfGeneration } from '../../../resource/status.ts';
import { STATUS_SCHEMA } from '../../../resource/status-schema.ts';
import type { MergePatch } from '../client/contract.ts';

export interface StatusQueueOptions {
  /** Generation of the object when it was claimed. */
  generation: number | undefined;
  write(patch: MergePatch): Promise<void>;
  warn(message: string): void;
}

export interface StatusQueue {
  /** @throws what `write` throws */
  write(status: DiskExportStatus): Promise<void>;
  /** The engine has read this generation: the last status is written again with it. */
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

export function statusPatch(status: DiskExportStatus): MergePatch {
  return withNulls(status, STATUS_SCHEMA) as MergePatch;
}

/** Names every absent field as null, because a merge patch keeps fields of the earlier status that it does not name. */
function withNulls(value: unknown, { properties }: Schema): unknown {
  if (!isFields(value) || properties === undefined) return value ?? null;
  return Object.fromEntries(Object.entries(properties).map(([name, schema]) => [name, withNulls(value[name], schema)]));
}
