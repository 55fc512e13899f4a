/** The text that describes a VMDK: its extents and its parent (Virtual Disk Format 5.0, "The Descriptor File"). */

import { DiskliftError } from '../../common/errors.ts';

/** A stretch of the disk, in order. `name` is as the author of the descriptor wrote it. */
export type DescribedExtent =
  | { kind: 'zero'; sizeBytes: number }
  | { kind: 'flat' | 'sparse'; name: string; offsetBytes: number; sizeBytes: number };

export interface VmdkDescriptor {
  /** Changes when the disk is written to; lower-case hex. */
  contentId: string;
  /** What the disk reads where it has nothing of its own. */
  parent?: { name: string; contentId: string };
  extents: readonly DescribedExtent[];
  /** Whether anything behind the extents shows that they are all: a text that was cut short looks like one of fewer. */
  hasEnd: boolean;
}

/** QEMU reads no more of it. */
export const MAX_DESCRIPTOR_BYTES = 2 ** 20;
/** A disk of 1 TiB in pieces of 2 GiB. Each is a descriptor of ours while the disk is open. */
const MAX_EXTENT_COUNT = 512;
const SECTOR_SIZE_BYTES = 512;

const KIND_OF_TYPE: Readonly<Record<string, 'zero' | 'flat' | 'sparse'>> = {
  ...{ ZERO: 'zero', FLAT: 'flat', VMFS: 'flat', SPARSE: 'sparse', VMFSSPARSE: 'sparse' },
};

const ACCESS = /^(RW|RDONLY|NOACCESS)\s/;
/** access, sectors, type, "name", the sector of the file where it begins */
const EXTENT = /^(RW|RDONLY)\s+(\d{1,15})\s+([A-Z]+)(?:\s+"([^"]+)"(?:\s+(\d{1,15}))?)?$/;
/** The disk database, which comes last, or the comment that announces it. */
const END = /^(ddb\.|#)/;
const FIELD = /^([A-Za-z.]+)\s*=\s*(?:"([^"]*)"|(\S*))$/;
const CONTENT_ID = /^[0-9a-f]{1,8}$/;
const NO_PARENT = 'ffffffff';

/**
 * @param bytes all of it; what is behind a NUL is padding
 * @param name of the file, for messages
 * @throws DiskliftError `FormatUnsupported`
 */
export function parseVmdkDescriptor(bytes: Uint8Array, name: string): VmdkDescriptor {
  const refuse = (why: string) => new DiskliftError('FormatUnsupported', `${name}: ${why}`);
  if (bytes.length > MAX_DESCRIPTOR_BYTES) throw refuse(`its descriptor is larger than ${MAX_DESCRIPTOR_BYTES} bytes`);
  const fields = new Map<string, string>();
  const extents: DescribedExtent[] = [];
  let hasEnd = false;
  for (const line of linesOf(bytes, refuse)) {
    if (ACCESS.test(line)) {
      if (extents.length === MAX_EXTENT_COUNT) throw refuse(`has more than ${MAX_EXTENT_COUNT} extents`);
      extents.push(parseExtent(line, refuse));
      hasEnd = false;
      continue;
    }
    hasEnd ||= END.test(line) && extents.length > 0;
    if (line.startsWith('#')) continue;
    const [, key = '', quoted, plain = ''] = FIELD.exec(line) ?? [];
    if (key.startsWith('encryption.')) throw refuse('is encrypted');
    // Who reads it by the first one and who by the last would read different disks.
    if (fields.has(key) && key !== '') throw refuse(`its descriptor states ${key} twice`);
    fields.set(key, quoted ?? plain);
  }
  if (!/^[123]$/.test(fields.get('version') ?? '')) throw refuse('its descriptor is none of version 1, 2 or 3');
  if (extents.length === 0) throw refuse('its descriptor has no extents');
  if (!Number.isSafeInteger(extents.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0))) throw refuse('its extents are too large');
  const parent = parentOf(fields, refuse);
  return { contentId: contentId(fields.get('CID'), refuse), ...(parent === undefined ? {} : { parent }), extents, hasEnd };
}

type Refuse = (why: string) => DiskliftError;

function linesOf(bytes: Uint8Array, refuse: Refuse): string[] {
  const end = bytes.indexOf(0);
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(end < 0 ? bytes : bytes.subarray(0, end));
    const lines = text.split('\n').map((line) => line.trim());
    return lines.filter((line) => line !== '');
  } catch {
    throw refuse('its descriptor is no text in UTF-8');
  }
}

function parseExtent(line: string, refuse: Refuse): DescribedExtent {
  const [, , sectors, type = '', name, offset = '0'] = EXTENT.exec(line) ?? [];
  const kind = KIND_OF_TYPE[type];
  const sizeBytes = Number(sectors) * SECTOR_SIZE_BYTES;
  const offsetBytes = Number(offset) * SECTOR_SIZE_BYTES;
  const isWhole = sizeBytes > 0 && Number.isSafeInteger(sizeBytes + offsetBytes) && (name === undefined) === (kind === 'zero');
  if (kind === undefined || !isWhole || (kind === 'sparse' && offsetBytes !== 0))
    throw refuse(
      `has an extent that cannot be read${type === '' ? '' : ` (${type})`}; FLAT, VMFS, SPARSE, VMFSSPARSE and ZERO can, without devices`,
    );
  return name === undefined || kind === 'zero' ? { kind: 'zero', sizeBytes } : { kind, name, offsetBytes, sizeBytes };
}

function contentId(text: string | undefined, refuse: Refuse): string {
  const id = text?.toLowerCase() ?? '';
  if (!CONTENT_ID.test(id)) throw refuse('its descriptor states no content id');
  return id.padStart(NO_PARENT.length, '0');
}

function parentOf(fields: ReadonlyMap<string, string>, refuse: Refuse): VmdkDescriptor['parent'] {
  const hint = fields.get('parentFileNameHint') ?? '';
  const parentId = contentId(fields.get('parentCID') ?? NO_PARENT, refuse);
  if ((hint === '') !== (parentId === NO_PARENT)) throw refuse('its descriptor contradicts itself about a parent');
  return hint === '' ? undefined : { name: hint, contentId: parentId };
}
