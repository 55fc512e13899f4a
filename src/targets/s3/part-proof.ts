/** Tags and checksums of S3 as proofs of bytes: "Checking object integrity" in the user guide of Amazon S3. */

import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { MIB } from '../../common/bytes.ts';
import type { ChecksumKind } from '../../s3/session-options.ts';
import { createCrc32c, createCrc64Nvme } from './crc.ts';
import { hashPieces, type PartBytes } from './part-bytes.ts';
import type { Part } from './plan-parts.ts';

/** 'etag': the server's tag equals our MD5 of the bytes. 'checksum': the server's CRC of the bytes equals ours. */
export type PartProof = 'etag' | 'checksum';

export interface PartVerdict {
  /** In hex, of our bytes. */
  md5: string;
  /** Absent when the answer has neither a usable tag nor a checksum. */
  proof?: PartProof;
  /**
   * The tag has the form of an MD5 but is not ours. Either the server has other bytes, or it computes tags in another
   * way; the tags of the other parts decide.
   */
  hasOtherTag: boolean;
}

/**
 * @param ours the requested checksum
 * @returns undefined when the server has other bytes
 * @throws DiskliftError `Cancelled`, or as {@link PartBytes.pieces}
 */
export async function judgePart(
  bytes: PartBytes,
  answer: Tagged & Checksum,
  { ours, signal }: { ours: Checksum; signal: AbortSignal },
): Promise<PartVerdict | undefined> {
  const md5 = await bytes.md5(signal);
  const isTag = isTagOf(md5, answer);
  let isSame = isSameChecksum(ours, answer);
  // A checksum that was not requested is computed only when the tag decides nothing.
  if (isTag !== true) isSame ??= isSameChecksum(await checksumOf(kindOf(answer), bytes, signal), answer);
  if (isSame === false) return undefined;
  const verdict = { md5, hasOtherTag: isTag === false };
  if (isTag === true) return { ...verdict, proof: 'etag' };
  return isSame === true ? { ...verdict, proof: 'checksum' } : verdict;
}

export interface ExpectedPart extends Part, PartVerdict {}

export interface ExpectedObject {
  /** Amazon's tag: the MD5 of a body, or the tag of a multipart object. */
  tag: string;
  /** The whole image, in order. */
  parts: readonly ExpectedPart[];
}

/** The part of the SDK's answers that is about a tag. */
export interface Tagged {
  ETag?: string | undefined;
  ServerSideEncryption?: string | undefined;
  SSECustomerAlgorithm?: string | undefined;
}

const MD5_SHAPE = /^"?([0-9a-f]{32})"?$/i;
const COMPOSITE_SHAPE = /^"?([0-9a-f]{32}-\d+)"?$/i;

/**
 * Amazon's tag of a multipart object: the MD5 of the parts' MD5s, and the number of parts.
 * @param md5s in hex, in order
 */
export function compositeEtag(md5s: readonly string[]): string {
  const hash = createHash('md5');
  for (const md5 of md5s) hash.update(md5, 'hex');
  return `${hash.digest('hex')}-${md5s.length}`;
}

/**
 * Compares a server's tag with the one that Amazon would give these bytes.
 * A different tag proves nothing by itself, because other servers compute tags of the same form in other ways.
 * @param expected the MD5 of the bytes, or {@link compositeEtag} of their parts
 * @returns undefined when the tag does not have that form
 */
export function isTagOf(expected: string, { ETag, ServerSideEncryption, SSECustomerAlgorithm }: Tagged): boolean | undefined {
  const theirs = (expected.includes('-') ? COMPOSITE_SHAPE : MD5_SHAPE).exec(ETag ?? '')?.[1]?.toLowerCase();
  if (theirs === expected) return true;
  // Tags of objects that are encrypted with the customer's keys look like MD5s, but are not MD5s.
  const isOther = (ServerSideEncryption ?? 'AES256') !== 'AES256' || SSECustomerAlgorithm !== undefined;
  return theirs === undefined || isOther ? undefined : false;
}

/** Base64, in the fields of the SDK. At most one is there. */
export interface Checksum {
  ChecksumCRC32?: string | undefined;
  ChecksumCRC32C?: string | undefined;
  ChecksumCRC64NVME?: string | undefined;
}

/** The fastest kind comes first. */
const KINDS = ['CRC32', 'CRC32C', 'CRC64NVME'] as const;

/** Node's CRC32 takes 0.2 ms for a MiB, what is written in JavaScript 4 ms. */
const PIECE_BYTES = { CRC32: 4 * MIB, CRC32C: MIB / 4, CRC64NVME: MIB / 4 };

/** @throws as {@link hashPieces} */
export async function checksumOf(kind: ChecksumKind, bytes: PartBytes, signal: AbortSignal): Promise<Checksum> {
  if (kind === 'None') return {};
  const value = (await hashPieces(createHashOf(kind), bytes, { signal, pieceBytes: PIECE_BYTES[kind] })).digest().toString('base64');
  return { [`Checksum${kind}`]: value };
}

function createHashOf(kind: Exclude<ChecksumKind, 'None'>): { update(bytes: Uint8Array): void; digest(): Buffer } {
  if (kind === 'CRC32C') return createCrc32c();
  if (kind === 'CRC64NVME') return createCrc64Nvme();
  let value = 0;
  return {
    update(bytes) {
      value = crc32(bytes, value);
    },
    digest() {
      const result = Buffer.alloc(4);
      result.writeUInt32BE(value);
      return result;
    },
  };
}

/** @returns the kind of a checksum that is present */
function kindOf(checksum: Checksum): ChecksumKind {
  return KINDS.find((kind) => checksum[`Checksum${kind}`] !== undefined) ?? 'None';
}

/** @returns undefined where `theirs` says nothing about the bytes of `ours` */
export function isSameChecksum(ours: Checksum, theirs: Checksum): boolean | undefined {
  const kind = kindOf(ours);
  if (kind === 'None') return undefined;
  const named = theirs[`Checksum${kind}`];
  return named === undefined ? undefined : named === ours[`Checksum${kind}`];
}
