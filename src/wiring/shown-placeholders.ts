/** Values of placeholders, as the pages show destinations. */

import type { DiskExport } from '../resource/disk-export.ts';
import { placeholderValues } from '../resource/placeholders.ts';

/** Without a path, the disk stays a placeholder, and so does the claim of a virtual machine's volume. */
export function shownPlaceholders(request: DiskExport, diskPath?: string): Readonly<Record<string, string | undefined>> {
  const { disk, claim, ...values } = placeholderValues(request, diskPath ?? '');
  return { ...values, ...(claim === '' ? {} : { claim }), ...(diskPath === undefined ? {} : { disk }) };
}
