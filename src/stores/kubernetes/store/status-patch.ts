/** A whole status as a merge patch (RFC 7386): what it does not have is removed, and lists are replaced. Pure. */

import type { DiskExportStatus } from '../../../resource/disk-export.ts';
import { isFields } from '../../../resource/fields.ts';
import type { Schema } from '../../../resource/schema.ts';
import { STATUS_SCHEMA } from '../../../resource/status-schema.ts';
import type { MergePatch } from '../client/contract.ts';

export function statusPatch(status: DiskExportStatus): MergePatch {
  return withNulls(status, STATUS_SCHEMA) as MergePatch;
}

/** Beneath an object that is there the fields of an earlier one would stay, so that they have to be named as well. */
function withNulls(value: unknown, { properties }: Schema): unknown {
  if (!isFields(value) || properties === undefined) return value ?? null;
  return Object.fromEntries(Object.entries(properties).map(([name, schema]) => [name, withNulls(value[name], schema)]));
}
