/** The promise "same source, or no image": what was read came from one unchanged disk. */

import { abortable } from '../common/abortable.ts';
import { DiskliftError } from '../common/errors.ts';
import type { DiskSource, SourceIdentity } from '../sources/contract.ts';

/**
 * Looks at the disk once more. Storage that hangs is left behind when `signal` is aborted.
 * To be called when everything has been read and before the image can be complete at its destination.
 * @param before the identity that was taken before the scan
 * @throws DiskliftError `SourceChanged` that names the facts that differ; what `signal` was aborted with, at once
 */
export async function sealSource(source: DiskSource, before: SourceIdentity, signal: AbortSignal): Promise<void> {
  const now = await abortable(source.identity(), signal);
  const changed = [...new Set([...Object.keys(before), ...Object.keys(now)])].filter((fact) => before[fact] !== now[fact]);
  if (changed.length > 0)
    throw new DiskliftError(
      'SourceChanged',
      `${source.name}: changed while it was read (${changed.join(', ')}); stop its writer and try again`,
    );
}
