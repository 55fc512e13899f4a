/** Whether a VHD stands alone (Virtual Hard Disk Image Format Specification, "Hard Disk Footer Format"). */

import { boundedView } from '../../common/bounded-view.ts';
import { endsAsVhd } from '../probe-format.ts';

export const VPC_FOOTER_BYTES = 512;
const FIXED = 2;
const DYNAMIC = 3;
const DIFFERENCING = 4;

/**
 * QEMU goes by the first sector when that looks like a footer. In a fixed disk it is the guest's, so both must say the same.
 * @param head the file's first sector
 * @param footer its last one
 * @throws DiskliftError `FormatUnsupported`
 */
export function requireStandaloneVpc({ head, footer, name }: { head: Uint8Array; footer: Uint8Array; name: string }): void {
  const typeOf = (sector: Uint8Array) => (endsAsVhd(sector) ? boundedView({ bytes: sector, name }).u32(60) : undefined); // Disk Type
  const { refuse } = boundedView({ bytes: head, name });
  const [copied, stated] = [typeOf(head), typeOf(footer)];
  if (copied === DIFFERENCING || stated === DIFFERENCING)
    throw refuse('is a differencing VHD, which cannot be read; merge it with its parent');
  if (copied === undefined && stated === FIXED) return;
  if (copied === DYNAMIC && stated === DYNAMIC) return;
  throw refuse('its first and its last sector make no VHD, fixed or dynamic; it is incomplete, or of another format');
}
