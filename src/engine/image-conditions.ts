/** Conditions about the images of an export: whether they hold only changes, and whether receipts are missing. Pure. */

import { shortened } from '../common/text.ts';
import type { DiskExport } from '../resource/disk-export.ts';
import { isManifest } from '../resource/source-kinds.ts';
import type { NewCondition } from '../resource/status.ts';
import type { DiskState } from './observer.ts';

export function imageConditions(disks: readonly DiskState[], { spec }: Pick<DiskExport, 'spec'>): NewCondition[] {
  const images = disks.filter(({ path }) => !isManifest(spec.source, path));
  return [...(spec.incremental === undefined ? [] : incrementalOf(images)), ...receiptsOf(images)];
}

/** @returns nothing until the type of an image is known */
function incrementalOf(images: readonly DiskState[]): NewCondition[] {
  const full = images.flatMap(({ path, imageType }) => (imageType?.type === 'Full' ? [{ path, ...imageType }] : []));
  const type = 'Incremental';
  if (full.length > 0)
    return [
      {
        type,
        status: 'False',
        reason: full.some(({ reason }) => reason !== 'FirstImage') ? 'FellBack' : 'FirstImage',
        message: `full images: ${shortened(full.map(({ path, reason, message }) => `${path} (${reason}: ${message})`))}`,
      },
    ];
  if (images.length === 0 || !images.every(({ imageType }) => imageType !== undefined)) return [];
  return [{ type, status: 'True', reason: 'OnlyChanges', message: 'every image holds only what has changed since its base' }];
}

function receiptsOf(images: readonly DiskState[]): NewCondition[] {
  const missing = images.flatMap(({ path, receiptRefusal }) => (receiptRefusal === undefined ? [] : [`${path}: ${receiptRefusal}`]));
  if (missing.length === 0) return [];
  return [{ type: 'ReceiptsMissing', status: 'True', reason: 'Refused', message: shortened(missing) }];
}
