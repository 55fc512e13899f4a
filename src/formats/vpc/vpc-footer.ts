/** Parses the footer of a VHD (Virtual Hard Disk Image Format Specification, "Hard Disk Footer Format"). Pure. */

import { boundedView } from '../../common/bounded-view.ts';

export const VPC_FOOTER_BYTES = 512;
const COOKIE = Buffer.from('conectix', 'latin1');
const CHECKSUM_AT = 64;
/** Creators whose Current Size every QEMU since 2.6 uses: Hyper-V, QEMU, Disk2vhd, XenServer, XenConverter. */
const CREATORS_BY_SIZE: ReadonlySet<string> = new Set(['win ', 'qem2', 'd2v ', 'tap\0', 'CTXS']);
/** Sectors of the largest geometry, which also stands for all larger disks. */
const MAX_SECTOR_COUNT = 65_535 * 16 * 255;
const SECTOR_SIZE_BYTES = 512;
const FIXED = 2;
const DYNAMIC = 3;
const DIFFERENCING = 4;

/**
 * The disk of a VHD. Its size is Current Size, because the geometry is rounded down to whole cylinders or left empty.
 */
export type VpcDisk =
  | { kind: 'fixed'; sizeBytes: number }
  | {
      kind: 'dynamic';
      sizeBytes: number;
      headerOffset: number;
      /**
       * Whether every version of QEMU reads this size. Before version 10, QEMU uses the geometry for creators that are
       * not in its list.
       */
      isSizeUndisputed: boolean;
    };

export interface ParsedVpc {
  disk: VpcDisk;
  /** True where the file does not end with the footer. A dynamic disk has a copy at its start. */
  isFooterMissing: boolean;
}

export interface VpcSectors {
  /** The file's first sector. */
  head: Uint8Array;
  /** The file's last sector. Old programs wrote 511 bytes of it. */
  footer: Uint8Array;
  /** Name of the file, for messages. */
  name: string;
}

interface Footer {
  type: number;
  sizeBytes: number;
  isIntact: boolean;
}

/**
 * The first sector of a fixed disk belongs to the guest. First and last sectors that contradict each other are refused.
 * @throws DiskliftError `FormatUnsupported` for a file that is no VHD, for a damaged footer, and for a VHD with a
 * parent
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
  // A damaged size would cut off the end of the disk.
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

/**
 * Whether a sector begins like a footer. A fixed VHD has no other mark than its last sector: its start belongs to the
 * guest.
 */
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

/** Whether a sector is a footer with a correct checksum. */
export function hasVpcChecksum(sector: Uint8Array): boolean {
  return sector.length === VPC_FOOTER_BYTES && boundedView({ bytes: sector, name: '' }).u32(CHECKSUM_AT) === vpcChecksum(sector);
}

/** The one's complement of the sum of all bytes but the checksum's own. */
function vpcChecksum(footer: Uint8Array): number {
  let sum = 0;
  for (const [at, byte] of footer.entries()) if (at < CHECKSUM_AT || at >= CHECKSUM_AT + 4) sum += byte;
  return ~sum >>> 0;
}
