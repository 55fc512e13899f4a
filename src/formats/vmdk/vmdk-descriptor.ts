/**
 * Parses the text that describes a VMDK: its extents, its parent and its content id (Virtual Disk Format 5.0, "The
 * Descriptor File").
 */

import { DiskliftError } from '../../common/errors.ts';
import { PROBED_BYTES } from '../format.ts';
import { type DescribedExtent, type ExtentSize, isSizeOf } from '../image-references.ts';
import { VMDK_DESCRIPTOR_START } from './vmdk-names.ts';

export interface VmdkDescriptor {
  /** A number that changes when the disk is written to. Left out where the text states none, or more than one. */
  contentId?: ContentId;
  /** The image that holds the grains which this one lacks. */
  parent?: { name: string; contentId: ContentId };
  /** The extent lines of the text, without surrounding white space. */
  extentLines: readonly string[];
  /**
   * Whether anything behind the extents shows that they are all: a truncated text looks like one with fewer extents.
   */
  hasEnd: boolean;
  /** Whether QEMU finds both content ids in the text; it refuses a sparse VMDK without them. */
  hasContentIdsForQemu: boolean;
}

/** QEMU reads no more bytes of a descriptor. */
export const MAX_DESCRIPTOR_BYTES = 2 ** 20;

/**
 * Also matches misspelled extent lines, in any case: an ignored line would lose its part of the disk. All other lines
 * are fields.
 */
const EXTENT_LINE = /^(?:RW|RDONLY|NOACCESS)\s|^[A-Za-z_]+\s+\d+\s+[A-Za-z]/i;
/** The disk database, which comes last, or the comment that announces it. */
const END = /^(ddb\.|#)/;
const FIELD = /^([A-Za-z.]+)\s*=\s*(?:"([^"]*)"|(\S*))$/;
const NO_PARENT = 'ffffffff';
/** Texts that programs write instead: zero, and the same number in decimal. */
const NO_PARENT_TEXTS: ReadonlySet<string> = new Set([NO_PARENT, '0', '00000000', '4294967295']);

/** The fields that bear on the disk's bytes, in lower case. VMware takes keys in any case. */
const CONTENT_ID = 'cid';
const PARENT_CONTENT_ID = 'parentcid';
const PARENT_NAME = 'parentfilenamehint';

type Refuse = (why: string) => DiskliftError;

/**
 * Fields that do not affect the disk's bytes may be absent, repeated, or have any value. The same holds for the disk
 * database.
 * @param bytes the whole descriptor; bytes after a NUL are padding
 * @param name of the file, for messages
 * @throws DiskliftError `FormatUnsupported`
 */
export function parseVmdkDescriptor(bytes: Uint8Array, name: string): VmdkDescriptor {
  const refuse = (why: string) => new DiskliftError('FormatUnsupported', `${name}: ${why}`);
  const text = textOf(bytes);
  const extentLines: string[] = [];
  const fields = new Map<string, Set<string>>();
  let hasEnd = false;
  for (const line of text.split('\n').map((each) => each.trim())) {
    if (EXTENT_LINE.test(line)) {
      extentLines.push(line);
      hasEnd = false;
      continue;
    }
    hasEnd ||= END.test(line) && extentLines.length > 0;
    const field = fieldIn(line, refuse);
    if (field === undefined) continue;
    const values = fields.get(field.key) ?? new Set();
    fields.set(field.key, values.add(field.value));
  }
  // The file may be a guest's disk, which is no text and has any length.
  const isDescriptor =
    extentLines.length > 0 || VMDK_DESCRIPTOR_START.test(Buffer.from(bytes.subarray(0, PROBED_BYTES)).toString('latin1'));
  if (isDescriptor && bytes.length > MAX_DESCRIPTOR_BYTES) throw refuse(`its descriptor is larger than ${MAX_DESCRIPTOR_BYTES} bytes`);
  const contentIds = new Set([...(fields.get(CONTENT_ID) ?? [])].map(parseContentId));
  const [contentId] = contentIds;
  const parent = parentOf(fields, refuse);
  return {
    ...(contentId === undefined || contentIds.size > 1 ? {} : { contentId }),
    ...(parent === undefined ? {} : { parent }),
    extentLines,
    hasEnd,
    hasContentIdsForQemu: readsContentIdsAsQemu(text),
  };
}

/** Decodes any encoding: most of the text is ASCII, and resolveName judges the names that are used. */
function textOf(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder('utf-8').decode(end < 0 ? bytes : bytes.subarray(0, end));
}

function fieldIn(line: string, refuse: Refuse): { key: string; value: string } | undefined {
  const [, name = '', quoted, plain = ''] = (line.startsWith('#') ? null : FIELD.exec(line)) ?? [];
  const key = name.toLowerCase();
  if (key.startsWith('encryption.')) throw refuse('is encrypted');
  // QEMU reads the word as a parent anywhere in the text, VMware only as a field.
  if (key !== PARENT_NAME && line.toLowerCase().includes(PARENT_NAME))
    throw refuse('its descriptor has a line with parentFileNameHint that not every program reads alike; correct it, or delete it');
  const value = quoted ?? plain;
  if (key === '') return undefined;
  return { key, value: key === PARENT_CONTENT_ID ? value.toLowerCase() : value };
}

/** Some programs read the first value, others the last. Different values would give different disks. */
function onlyValue(fields: ReadonlyMap<string, ReadonlySet<string>>, key: string, refuse: Refuse): string {
  const [first = '', second] = fields.get(key) ?? [];
  if (second === undefined) return first;
  const shown = key === PARENT_NAME ? 'parentFileNameHint' : 'parentCID';
  throw refuse(`its descriptor states ${shown} twice, and not the same; delete the line that is wrong`);
}

function parentOf(fields: ReadonlyMap<string, ReadonlySet<string>>, refuse: Refuse): VmdkDescriptor['parent'] {
  const name = onlyValue(fields, PARENT_NAME, refuse);
  const stated = onlyValue(fields, PARENT_CONTENT_ID, refuse);
  const contentId = parseContentId(stated === '' ? NO_PARENT : stated);
  if (name === '') {
    if (NO_PARENT_TEXTS.has(stated) || contentId === NO_PARENT) return undefined;
    throw refuse(
      `its descriptor states parentCID=${stated.slice(0, 20)}, as a snapshot does, and names no parent; if it is a whole disk, state parentCID=ffffffff there`,
    );
  }
  if (contentId !== undefined && contentId !== NO_PARENT) return { name, contentId };
  throw refuse(
    'its descriptor names a parent and states no parentCID of one; if it is a whole disk, delete the line parentFileNameHint there',
  );
}

/** 8 digits of lower-case hex. */
type ContentId = string;

/** Some programs write decimal, which reads as hex of up to 10 digits; some write 0x in front. */
const TEXT = /^(?:0x)?([0-9a-f]{1,16})$/i;
const MASK = 0xffff_ffffn;

/** Number of characters after the key in which the value is searched. */
const VALUE_CHARACTERS = 32;
const VALUE_FOR_QEMU = /^.\s*(?:0x)?[0-9a-f]/i;

/** @returns the id as QEMU reads it: the low 32 bits of a hexadecimal number; undefined for other text */
function parseContentId(text: string): ContentId | undefined {
  const [, digits] = TEXT.exec(text) ?? [];
  return digits === undefined ? undefined : (BigInt(`0x${digits}`) & MASK).toString(16).padStart(8, '0');
}

/** QEMU searches the first CID and the first parentCID of the text, and parses a number one character after each. */
function readsContentIdsAsQemu(text: string): boolean {
  return ['CID', 'parentCID'].every((key) => {
    const at = text.indexOf(key);
    return at >= 0 && VALUE_FOR_QEMU.test(text.slice(at + key.length, at + key.length + VALUE_CHARACTERS));
  });
}

/** Enough for a disk of 1 TiB in pieces of 2 GiB. Each extent takes a file descriptor while the disk is open. */
const MAX_EXTENT_COUNT = 512;
const SECTOR_SIZE_BYTES = 512;

const KIND_OF_TYPE: Readonly<Record<string, DescribedExtent['kind']>> = {
  ...{ ZERO: 'zero', FLAT: 'flat', VMFS: 'flat', SPARSE: 'sparse', VMFSSPARSE: 'sparse' },
};

/** access, sectors, type, "name", the sector of the file where it begins */
const EXTENT = /^(RW|RDONLY|NOACCESS)\s+(\d{1,15})\s+([A-Z]+)(?:\s+"([^"]+)"(?:\s+(\d{1,15}))?)?$/;
const SHOWN_CHARACTERS = 80;

/**
 * @param lines of a descriptor in a file of its own
 * @param name of that file
 * @throws DiskliftError `FormatUnsupported`
 */
export function parseVmdkExtents(lines: readonly string[], name: string): readonly DescribedExtent[] {
  const refuse = (why: string) => new DiskliftError('FormatUnsupported', `${name}: ${why}`);
  if (lines.length > MAX_EXTENT_COUNT) throw refuse(`has more than ${MAX_EXTENT_COUNT} extents`);
  const extents = lines.map((line) => parseExtent(line, refuse));
  if (!Number.isSafeInteger(extents.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0))) throw refuse('its extents are too large');
  return extents;
}

function parseExtent(line: string, refuse: Refuse): DescribedExtent {
  const [, access, sectors, type = '', name, offset = '0'] = EXTENT.exec(line) ?? [];
  const kind = KIND_OF_TYPE[type];
  const sizeBytes = Number(sectors) * SECTOR_SIZE_BYTES;
  const offsetBytes = Number(offset) * SECTOR_SIZE_BYTES;
  if (access === 'NOACCESS')
    throw refuse('has an extent that its descriptor lets nobody read (NOACCESS); state RW there if it is part of the disk');
  const isWhole = sizeBytes > 0 && Number.isSafeInteger(sizeBytes + offsetBytes) && (name === undefined) === (kind === 'zero');
  if (kind === undefined || !isWhole || (kind === 'sparse' && offsetBytes !== 0))
    throw refuse(
      `has an extent that cannot be read${type === '' ? '' : ` (${type})`}; FLAT, VMFS, SPARSE, VMFSSPARSE and ZERO can, without devices`,
    );
  return name === undefined || kind === 'zero' ? { kind: 'zero', sizeBytes } : { kind, name, offsetBytes, sizeBytes };
}

/**
 * Checks a descriptor inside the sparse VMDK that it describes. The file is read by its header alone, so the descriptor
 * must not describe another disk. Access and name do not matter: the name is often out of date, and the file is open
 * already.
 * @throws DiskliftError `FormatUnsupported`
 */
export function requireOwnExtent(lines: readonly string[], header: ExtentSize, name: string): void {
  const refuse = (why: string) =>
    new DiskliftError('FormatUnsupported', `${name}: its VMDK header and its descriptor contradict each other: ${why}`);
  if (lines.length > 1) throw refuse(`the descriptor lists ${lines.length} extents, and the file is one`);
  const [line] = lines;
  if (line === undefined) return;
  const [, , sectors = '', type = ''] = /^(\S+)\s+(\d{1,15})\s+([A-Z]+)(?=\s|$)/.exec(line) ?? [];
  if (KIND_OF_TYPE[type] !== 'sparse')
    throw refuse(`the file is sparse, and the descriptor states ${JSON.stringify(line.slice(0, SHOWN_CHARACTERS))}`);
  if (!isSizeOf(header, Number(sectors) * SECTOR_SIZE_BYTES))
    throw refuse(
      `the header states a disk of ${header.sizeBytes / SECTOR_SIZE_BYTES} sectors and the descriptor ${sectors}; correct the one that is wrong`,
    );
}
