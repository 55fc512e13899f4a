/** The text that describes a VMDK: its extents and its parent (Virtual Disk Format 5.0, "The Descriptor File"). */

import { DiskliftError } from '../../common/errors.ts';
import { probeFormat } from '../probe-format.ts';
import { type ContentId, parseContentId, readsContentIdsAsQemu } from './vmdk-content-id.ts';

export interface VmdkDescriptor {
  /** A number that changes when the disk is written to. Left out where the text states none, or more than one. */
  contentId?: ContentId;
  /** The image that is read where this one has no data. */
  parent?: { name: string; contentId: ContentId };
  /** The extent lines of the text, without surrounding white space. */
  extentLines: readonly string[];
  /** Whether anything behind the extents shows that they are all: a text that was cut short looks like one of fewer. */
  hasEnd: boolean;
  /** Whether QEMU, which refuses a sparse VMDK otherwise, finds both content ids in the text. */
  hasContentIdsForQemu: boolean;
}

/** QEMU reads no more of it. */
export const MAX_DESCRIPTOR_BYTES = 2 ** 20;

/** Also matches misspelled extent lines, in any case: an ignored line would lose its part of the disk. All other lines are fields. */
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
 * Fields that do not affect the disk's bytes may be absent, repeated, or have any value. The same holds for the disk database.
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
  const isDescriptor = extentLines.length > 0 || probeFormat(bytes) === 'vmdk';
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

/** Decodes any encoding: most of the text is ASCII, and resolve-name checks the names that are used. */
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
