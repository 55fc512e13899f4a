/** The other files that a header names: its extensions, and the name of the backing file (qcow2.rst, "Header extensions"). */

import type { BoundedView } from '../../common/bounded-view.ts';
import { alignUp } from '../../common/bytes.ts';
import {
  HEADER_EXTENSION_BACKING_FORMAT,
  HEADER_EXTENSION_DATA_FILE_NAME,
  HEADER_EXTENSION_ENCRYPTION,
  HEADER_EXTENSION_END,
  MAX_BACKING_FILE_NAME_LENGTH,
} from '../constants.ts';

export interface BackingFileName {
  /** Never empty. Whatever the image's author wrote: a path, or one of the many things that QEMU would open as well. */
  name: string;
  format?: string;
}

export interface HeaderReferences {
  backingFile?: BackingFileName;
  dataFileName?: string;
}

export interface HeaderBounds {
  clusterSizeBytes: number;
  headerLength: number;
  encryption: 'none' | 'aes' | 'luks';
}

/** QEMU keeps the name of the format in so many bytes, with a NUL behind it. */
const MAX_FORMAT_LENGTH = 15;
const ENCRYPTION_EXTENSION_LENGTH = 16;
const UNDERSTOOD: ReadonlySet<number> = new Set([
  HEADER_EXTENSION_BACKING_FORMAT,
  HEADER_EXTENSION_DATA_FILE_NAME,
  HEADER_EXTENSION_ENCRYPTION,
]);

/**
 * @param view of the first cluster, or of the whole file where that is shorter
 * @throws DiskliftError `FormatUnsupported`
 */
export function parseReferences(view: BoundedView, bounds: HeaderBounds): HeaderReferences {
  const backingNameOffset = view.u64(8); // backing_file_offset
  const backingNameLength = view.u32(16); // backing_file_size
  if (backingNameOffset > bounds.clusterSizeBytes) throw view.refuse('names its backing file outside of its first cluster');
  const hasBackingName = backingNameOffset !== 0 && backingNameLength !== 0;
  if (hasBackingName && backingNameLength > Math.min(MAX_BACKING_FILE_NAME_LENGTH, bounds.clusterSizeBytes - backingNameOffset))
    throw view.refuse('the name of its backing file is too long');
  const end = backingNameOffset === 0 ? bounds.clusterSizeBytes : backingNameOffset;
  const { format, dataFileName } = parseExtensions(view, end, bounds);
  return {
    ...(hasBackingName
      ? { backingFile: { name: view.text(backingNameOffset, backingNameLength), ...(format === undefined ? {} : { format }) } }
      : {}),
    ...(dataFileName === undefined ? {} : { dataFileName }),
  };
}

interface NamedByExtensions {
  format?: string;
  dataFileName?: string;
}

/** type u32, length u32 (without padding), data, zeros up to a multiple of 8; to the one of type 0, or `end` */
function parseExtensions(view: BoundedView, end: number, { headerLength, encryption }: HeaderBounds): NamedByExtensions {
  const found = new Map<number, { at: number; length: number }>();
  let at = headerLength;
  while (at < end) {
    const type = view.u32(at);
    if (type === HEADER_EXTENSION_END) break;
    const length = view.u32(at + 4);
    if (at + 8 + length > end) throw view.refuse(`its header extension at byte ${at} is too large`);
    // QEMU goes by the last one; others may not.
    if (found.has(type) && UNDERSTOOD.has(type)) throw view.refuse(`has two header extensions of the type 0x${type.toString(16)}`);
    found.set(type, { at: at + 8, length });
    at = alignUp(at + 8 + length, 8);
  }
  const text = (type: number, maxLength = end) => {
    const extension = found.get(type);
    if (extension === undefined || extension.length === 0) return undefined;
    if (extension.length > maxLength) throw view.refuse('the name of the format of its backing file is too long');
    return view.text(extension.at, extension.length);
  };
  const encryptionLength = found.get(HEADER_EXTENSION_ENCRYPTION)?.length;
  if (encryptionLength !== (encryption === 'luks' ? ENCRYPTION_EXTENSION_LENGTH : undefined))
    throw view.refuse('its encryption and the header extension for it do not match');
  const format = text(HEADER_EXTENSION_BACKING_FORMAT, MAX_FORMAT_LENGTH);
  const dataFileName = text(HEADER_EXTENSION_DATA_FILE_NAME);
  return { ...(format === undefined ? {} : { format }), ...(dataFileName === undefined ? {} : { dataFileName }) };
}
