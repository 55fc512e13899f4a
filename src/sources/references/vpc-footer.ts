/** What the footer of a VHD says of its disk (Virtual Hard Disk Image Format Specification, "Hard Disk Footer Format"). Pure. */

import { boundedView } from '../../common/bounded-view.ts';

export const VPC_FOOTER_BYTES = 512;
const COOKIE = Buffer.from('conectix', 'latin1');
const CHECKSUM_AT = 64;
/** Whose Current Size every version of QEMU since 2.6 goes by: Hyper-V, QEMU, Disk2vhd, XenServer, XenConverter. */
const CREATORS_BY_SIZE: ReadonlySet<string> = new Set(['win ', 'qem2', 'd2v ', 'tap\0', 'CTXS']);
/** Of a geometry that stands for everything larger. */
const MAX_SECTOR_COUNT = 65_535 * 16 * 255;
const SECTOR_SIZE_BYTES = 512;
const FIXED = 2;
const DYNAMIC = 3;
const DIFFERENCING = 4;

/** The disk of a VHD. Its size is Current Size: the geometry beside it is rounded down to whole cylinders, or left empty. */
export type VpcDisk =
  | { kind: 'fixed'; sizeBytes: number }
  | {
      kind: 'dynamic';
      sizeBytes: number;
      headerOffset: number;
      /** Every version of QEMU reads this size. Before version 10, QEMU takes the geometry's where it does not know the creator. */
      isSizeUndisputed: boolean;
    };

export interface ParsedVpc {
  disk: VpcDisk;
  /** The file does not end with the footer, which a dynamic disk has a copy of in front. */
  isFooterMissing: boolean;
}

export interface VpcSectors {
  /** The file's first sector. */
  head: Uint8Array;
  /** The file's last sector. Old programs wrote 511 bytes of it. */
  footer: Uint8Array;
  /** Of the file, for messages. */
  name: string;
}

interface Footer {
  type: number;
  sizeBytes: number;
  isIntact: boolean;
}

/**
 * The first sector is the guest's in a fixed disk, so a footer at the end that says otherwise is a contradiction.
 * @throws DiskliftError `FormatUnsupported` for what is no VHD, for a footer that is damaged, and for a VHD with a parent
 */
export function parseVpc({ head, footer, name }: VpcSectors): ParsedVpc {
  const read = (sector: Uint8Array): Footer | undefined => {
    if (!hasVpcCookie(sector)) return undefined;
    const view = boundedView({ bytes: sector, name });
    return { type: view.u32(60), sizeBytes: view.u64(48), isIntact: view.u32(CHECKSUM_AT) === vpcChecksum(sector) }; // Disk Type, Current Size
  };
  const { refuse, u64 } = boundedView({ bytes: head, name });
  const [copied, stated] = [read(head), read(footer)];
  if (copied?.type === DIFFERENCING || stated?.type === DIFFERENCING)
    throw refuse('is a differencing VHD, which cannot be read; merge it with its parent');
  // A size that was damaged would leave out the end of the disk.
  const requireIntact = ({ isIntact }: Footer) => {
    if (!isIntact)
      throw refuse('its VHD footer is damaged: its bytes have another checksum than it states; copy it once more, or repair it');
  };
  if (copied === undefined && stated?.type === FIXED) {
    requireIntact(stated);
    return { disk: { kind: 'fixed', sizeBytes: stated.sizeBytes }, isFooterMissing: false };
  }
  if (copied?.type !== DYNAMIC || (stated !== undefined && stated.type !== DYNAMIC))
    throw refuse('its first and its last sector make no VHD, fixed or dynamic; it is incomplete, or of another format');
  if (stated !== undefined && stated.sizeBytes !== copied.sizeBytes)
    throw refuse(`its first sector states a disk of ${copied.sizeBytes} bytes and its last one ${stated.sizeBytes}; repair the VHD first`);
  requireIntact(copied);
  const { sizeBytes } = copied;
  const disk: VpcDisk = { kind: 'dynamic', sizeBytes, headerOffset: u64(16), isSizeUndisputed: isSizeUndisputed(head, sizeBytes) }; // Data Offset
  return { disk, isFooterMissing: stated === undefined };
}

/** Whether a sector begins like a footer. The last sector of a fixed VHD is all that says what the file is: its beginning is the guest's. */
export function hasVpcCookie(sector: Uint8Array): boolean {
  return COOKIE.equals(sector.subarray(0, COOKIE.length));
}

/** @param footer whose Current Size is `sizeBytes` */
function isSizeUndisputed(footer: Uint8Array, sizeBytes: number): boolean {
  const view = boundedView({ bytes: footer, name: '' });
  const creator = Buffer.from(footer.subarray(28, 32)).toString('latin1'); // Creator Application
  const sectorCount = view.u16(56) * view.u8(58) * view.u8(59); // Disk Geometry: cylinders, heads, sectors per track
  return CREATORS_BY_SIZE.has(creator) || sectorCount === MAX_SECTOR_COUNT || sectorCount * SECTOR_SIZE_BYTES === sizeBytes;
}

/** Whether a sector is a footer in which every byte is as it was written. */
export function hasVpcChecksum(sector: Uint8Array): boolean {
  return sector.length === VPC_FOOTER_BYTES && boundedView({ bytes: sector, name: '' }).u32(CHECKSUM_AT) === vpcChecksum(sector);
}

/** The one's complement of the sum of all bytes but the checksum's own. */
function vpcChecksum(footer: Uint8Array): number {
  let sum = 0;
  for (const [at, byte] of footer.entries()) if (at < CHECKSUM_AT || at >= CHECKSUM_AT + 4) sum += byte;
  return ~sum >>> 0;
}
