/** The lines of a VMDK descriptor that locate its disk (Virtual Disk Format 5.0, "The Extent Description"). Pure. */

import { alignUp } from '../../common/bytes.ts';
import { DiskliftError } from '../../common/errors.ts';
import type { VmdkSparseHeader } from './vmdk-sparse-header.ts';

/** A part of the disk, in order. `name` is as the author of the descriptor wrote it. */
export type DescribedExtent =
  | { kind: 'zero'; sizeBytes: number }
  | { kind: 'flat' | 'sparse'; name: string; offsetBytes: number; sizeBytes: number };

/** Enough for a disk of 1 TiB in pieces of 2 GiB. Each extent takes a file descriptor while the disk is open. */
const MAX_EXTENT_COUNT = 512;
const SECTOR_SIZE_BYTES = 512;

const KIND_OF_TYPE: Readonly<Record<string, DescribedExtent['kind']>> = {
  ...{ ZERO: 'zero', FLAT: 'flat', VMFS: 'flat', SPARSE: 'sparse', VMFSSPARSE: 'sparse' },
};

/** access, sectors, type, "name", the sector of the file where it begins */
const EXTENT = /^(RW|RDONLY|NOACCESS)\s+(\d{1,15})\s+([A-Z]+)(?:\s+"([^"]+)"(?:\s+(\d{1,15}))?)?$/;
const SHOWN_CHARACTERS = 80;

type Refuse = (why: string) => DiskliftError;

/** @param lines of a descriptor that lies in a file of its own @param name of that file @throws DiskliftError `FormatUnsupported` */
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
 * Checks a descriptor inside the sparse VMDK that it describes. The file is read by its header alone, so the descriptor must not describe
 * another disk. Access and name do not matter: the name is often out of date, and the file is open already.
 * @throws DiskliftError `FormatUnsupported`
 */
export function requireOwnExtent(lines: readonly string[], header: VmdkSparseHeader, name: string): void {
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

/** Some programs round the size in the header up to whole grains; that size is read. */
export function isSizeOf({ sizeBytes, grainSizeBytes }: VmdkSparseHeader, describedBytes: number): boolean {
  if (sizeBytes === describedBytes) return true;
  return grainSizeBytes > 0 && sizeBytes === alignUp(describedBytes, grainSizeBytes);
}
