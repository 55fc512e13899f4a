/** The promise "same source, or no image": what was read came from one unchanged disk. */

import { abortable } from '../common/abortable.ts';
import { DiskliftError } from '../common/errors.ts';
import type { DiskSource, SourceIdentity } from '../sources/contract.ts';

/**
 * Checks the disk's identity once more. An abort of `signal` abandons storage that hangs.
 * Call this after the last read, and before the image can be complete at its destination.
 * @param before the identity before the scan
 * @param ignored facts that may differ, because the content was compared
 * @throws DiskliftError `SourceChanged` that names the facts that differ; the signal's reason, at once
 */
export async function sealSource(
  source: DiskSource,
  before: SourceIdentity,
  signal: AbortSignal,
  ignored: readonly string[] = [],
): Promise<void> {
  const now = await abortable(source.identity(), signal);
  const facts = [...new Set([...Object.keys(before), ...Object.keys(now)])].filter((fact) => !ignored.includes(fact));
  const changed = facts.filter((fact) => before[fact] !== now[fact]);
  if (changed.length === 0) return;
  // A hard link, a chmod or an attribute changes ctime alone; so does a write whose mtime was set back.
  const advice =
    changed.join() === 'ctime'
      ? 'its attributes did, or a write that hides its time; try again, or have the content compared by verify Always (--verify always)'
      : 'stop its writer and try again';
  throw new DiskliftError('SourceChanged', `${source.name}: changed while it was read (${changed.join(', ')}); ${advice}`);
}
