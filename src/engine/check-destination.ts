/** Asks a destination before the scan, which may take hours, for what would refuse the image afterwards. */

import { abortable } from '../common/abortable.ts';
import type { ExportTarget } from '../targets/contract.ts';
import type { EngineContext } from './context.ts';

/** @returns the target that was asked @throws DiskliftError as createTarget and {@link ExportTarget.check} */
export async function checkDestination(
  createTarget: () => Promise<ExportTarget>,
  { signal }: Pick<EngineContext, 'signal'>,
): Promise<ExportTarget> {
  const target = await abortable(createTarget(), signal);
  if (target.check !== undefined) await abortable(target.check(signal), signal);
  return target;
}
